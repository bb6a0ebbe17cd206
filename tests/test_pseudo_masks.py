"""Scores and pseudo masks from a network."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from weakclip.datasets.index import Record
from weakclip.inference import Fusion, Predict
from weakclip.masks import read_mask
from weakclip.pseudo_masks import write_masks
from weakclip.scores import ScoreStore, ScoreWriter

FUSION = Fusion(scales=(1.0,), flip=True, base_size=(16, 16), window=16, stride=8, patch=8, multiple=8)
COLOURS = ((0, 0, 0), (200, 0, 0), (0, 200, 0), (0, 0, 200))


class ChannelWins:
    """Stands in for a network of four classes: a red pixel is class 1, a green one 2, a blue one 3, a dark one background."""

    def __init__(self, interrupt_after: int | None = None) -> None:
        self.photos = 0
        self._interrupt_after = interrupt_after

    def __call__(self, images: Tensor) -> Tensor:
        if self._interrupt_after is not None and self.photos >= self._interrupt_after:
            raise KeyboardInterrupt
        self.photos += len(images) // 2  # each is seen mirrored as well
        return torch.cat([torch.full_like(images[:, :1], 100), images], dim=1).float() / 50


@pytest.fixture
def records(tmp_path: Path) -> list[Record]:
    """Eighteen photos: left red, right green or blue in turns. Tags are red and green."""
    made = []
    for number in range(18):
        pixels = np.zeros((16, 16, 3), np.uint8)
        pixels[4:12, :8], pixels[4:12, 8:] = COLOURS[1], COLOURS[2 + number % 2]
        photo = tmp_path / f"{number:02d}.png"
        Image.fromarray(pixels).save(photo)
        made.append(Record(image_id=photo.stem, photo=str(photo), height=16, width=16, split="train", tags=(1, 2), mask=None))
    return made


def scores(records: list[Record], folder: Path, predict: Predict, tag_filter: bool = True) -> ScoreStore:
    pseudo = folder.with_name(f"{folder.name}_pseudo")
    write_masks(records, predict, 4, FUSION, folder, pseudo, {"kind": "test"}, tag_filter=tag_filter, share_absent=False)
    return ScoreStore(folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_tags_limit_the_classes_that_compete(records: list[Record], tmp_path: Path) -> None:
    store = scores(records, tmp_path / "scores", ChannelWins())
    for image_id in ("00", "01"):
        classes, probabilities = store.read(image_id)
        assert classes.tolist() == [0, 1, 2] and probabilities.shape == (3, 16, 16)
        np.testing.assert_allclose(probabilities.sum(axis=0, dtype=np.float32), 1, atol=2e-3)


def test_without_the_tag_filter_the_winners_are_kept(records: list[Record], tmp_path: Path) -> None:
    store = scores(records, tmp_path / "scores", ChannelWins(), tag_filter=False)
    assert [store.read(image_id)[0].tolist() for image_id in ("00", "01")] == [[0, 1, 2], [0, 1, 3]]


@pytest.mark.parametrize(("tag_filter", "right"), [(True, 0), (False, 3)])
def test_pseudo_masks_hold_the_most_probable_class(records: list[Record], tmp_path: Path, tag_filter: bool, right: int) -> None:
    scores(records, tmp_path / "scores", ChannelWins(), tag_filter)
    assert len(list((tmp_path / "scores_pseudo").iterdir())) == 18
    expected = np.zeros((16, 16), np.uint8)
    expected[4:12, :8], expected[4:12, 8:] = 1, right
    assert np.array_equal(read_mask(tmp_path / "scores_pseudo" / "01.png"), expected)


def test_an_interrupted_run_is_gone_on_with(records: list[Record], tmp_path: Path) -> None:
    undisturbed = ChannelWins()
    scores(records, tmp_path / "whole", undisturbed)
    with pytest.raises(KeyboardInterrupt):
        scores(records, tmp_path / "scores", ChannelWins(interrupt_after=16))
    rest = ChannelWins()
    scores(records, tmp_path / "scores", rest)
    assert (undisturbed.photos, rest.photos) == (18, 2)
    assert contents(tmp_path / "whole") == contents(tmp_path / "scores")
    assert contents(tmp_path / "whole_pseudo") == contents(tmp_path / "scores_pseudo")

    (tmp_path / "scores_pseudo" / "03.png").unlink()
    (tmp_path / "scores_pseudo" / "17.png").write_bytes(b"torn")
    nothing = ChannelWins(interrupt_after=0)
    scores(records, tmp_path / "scores", nothing)
    assert nothing.photos == 0
    assert contents(tmp_path / "whole_pseudo") == contents(tmp_path / "scores_pseudo")


def test_masks_are_written_no_later_than_the_scores_that_they_are_of(
    records: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there: list[bool] = []
    write = ScoreWriter.write

    def watched(self: ScoreWriter, image_id: str, *arguments: Any) -> None:
        there.append((tmp_path / "scores_pseudo" / f"{image_id}.png").exists())
        write(self, image_id, *arguments)

    monkeypatch.setattr(ScoreWriter, "write", watched)
    scores(records, tmp_path / "scores", ChannelWins())
    assert there == 18 * [True]
