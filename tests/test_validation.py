from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from weakclip.datasets.index import Record
from weakclip.masks import read_mask
from weakclip.validation import mean, predict_masks


def records_in(folder: Path) -> list[Record]:
    for name, grey in (("a", 0), ("b", 200)):
        Image.new("RGB", (12, 9), (grey, grey, grey)).save(folder / f"{name}.png")
    size = {"height": 9, "width": 12}
    return [Record(image_id=name, photo=folder / f"{name}.png", split="val", tags=(), mask=None, **size) for name in "ab"]


def bright(photo: NDArray[np.uint8]) -> NDArray[np.float32]:
    share = photo[:, :, 0].astype(np.float32) / 250
    return np.stack([1 - share, share])


def test_winners_are_written_with_their_confidence(tmp_path: Path) -> None:
    confidence = predict_masks(records_in(tmp_path), bright, tmp_path / "out", tmp_path / "journal")
    assert confidence == pytest.approx({"a": 1.0, "b": 0.8})
    assert read_mask(tmp_path / "out/b.png").tolist() == [[1] * 12] * 9
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "b.png"]


def test_finished_images_are_not_predicted_again(tmp_path: Path) -> None:
    records = records_in(tmp_path)
    predict_masks(records[:1], bright, tmp_path / "out", tmp_path / "journal")
    seen = []

    def counted(photo: NDArray[np.uint8]) -> NDArray[np.float32]:
        seen.append(photo[0, 0, 0])
        return bright(photo)

    assert list(predict_masks(records, counted, tmp_path / "out", tmp_path / "journal")) == ["a", "b"]
    assert seen == [200]


def test_the_mean_of_nothing_is_not_a_number() -> None:
    assert mean([1.0, 2.0]) == 1.5
    assert np.isnan(mean([]))
