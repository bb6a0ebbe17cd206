"""Files of the released code, there and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from stages.cli import app
from weakclip.datasets import coco_classes, voc12
from weakclip.datasets.index import ClassList, Dataset, Record, write_dataset
from weakclip.datasets.lists import read_ids
from weakclip.datasets.pickled import read_pickled_dictionary
from weakclip.errors import WeakClipError
from weakclip.masks import read_mask, write_mask
from weakclip.prob_npy import SavedScores, read_prob_npy, write_prob_npy
from weakclip.scores import ScoreWriter

MASK = np.array([[0, 12], [80, 255]], np.uint8)
RELEASED = np.array([[0, 13], [90, 255]], np.uint8)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WEAKCLIP_WORKERS", "1")


def run(*command: str) -> str:
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def take_over(classes: str = "coco14", out: str = "data/raw/seeds") -> str:
    return run("import-masks", "released", "--classes", classes, "--out", out)


def project(name: str, classes: ClassList, splits: dict[str, str]) -> None:
    """A dataset with masks and scores of the images, whose ids and splits are given."""
    records = tuple(
        Record(image_id=image_id, photo=f"{image_id}.jpg", height=2, width=2, split=split, tags=(12,), mask=None)
        for image_id, split in sorted(splits.items())
    )
    write_dataset(Dataset(name=name, classes=classes, records=records), Path("data/dataset"))
    Path("data/masks/refined").mkdir(parents=True)
    training = [record.image_id for record in records if record.split != "val"]
    writer = ScoreWriter(Path("data/masks/scores"), training, {})
    for image_id in training:
        write_mask(Path(f"data/masks/refined/{image_id}.png"), np.where(MASK == 80, 0, MASK).astype(np.uint8))
        writer.write(image_id, [0, 12, 2], np.array([[[0.5, 0.25]] * 2, [[0.25, 0.5]] * 2, [[0.125, 0.125]] * 2]))
    writer.finish()


def test_masks_numbered_by_category_id_become_masks_of_80_classes() -> None:
    Path("released").mkdir()
    Image.fromarray(RELEASED).save("released/COCO_train2014_000000000009.png")
    Image.fromarray(np.full((2, 2), 12, np.uint8)).save("released/000000000025.png")  # street sign: no class
    assert "cam.import_folder to data/raw/seeds" in take_over()
    assert np.array_equal(read_mask(Path("data/raw/seeds/000000000009.png")), MASK)
    assert (read_mask(Path("data/raw/seeds/000000000025.png")) == 255).all()


def test_saved_scores_become_the_masks_of_their_winners() -> None:
    Path("released").mkdir()
    probabilities = np.array([[[0.6, 0.1]], [[0.2, 0.7]]], np.float32)
    write_prob_npy(Path("released/2007_1.npy"), SavedScores(classes=np.array([0, 15]), probabilities=probabilities))
    take_over("voc12")
    assert read_mask(Path("data/raw/seeds/2007_1.png")).tolist() == [[0, 15]]


def test_what_cannot_be_taken_over_is_named_and_leaves_no_folder() -> None:
    Path("released").mkdir()
    with pytest.raises(WeakClipError, match="holds no PNG"):
        take_over()
    Image.fromarray(RELEASED).save("released/a.png")
    with pytest.raises(WeakClipError, match=r"a\.png: expected classes 0 to 20 or 255, got 90"):
        take_over("voc12", "one")
    (Path("released") / "a.npy").touch()
    with pytest.raises(WeakClipError, match="two files of a"):
        take_over("coco14", "two")
    assert {path.name for path in Path().iterdir()} == {"released"}
    Path("three").mkdir()
    with pytest.raises(WeakClipError, match="three is there already"):
        take_over("coco14", "three")


def test_masks_scores_lists_and_tags_are_handed_over_in_the_released_numbering() -> None:
    project("coco14", coco_classes.CLASSES, {"000000000009": "train", "000000000042": "val"})
    assert run("export-masks", "--out", "out") == (
        "wrote clip_es_train.txt, clip_es_val.txt, cls_labels.npy, pred_png, prob_npy, train.txt, val.txt to out\n"
    )
    assert Path("out/clip_es_train.txt").read_text() == "000000000009 11\n"
    with Image.open("out/pred_png/000000000009.png") as image:
        assert image.mode == "L" and np.asarray(image).tolist() == [[0, 13], [0, 255]]
    scores = read_prob_npy(Path("out/prob_npy/000000000009.npy"))
    assert scores.classes.tolist() == [0, 13] and scores.labels.tolist() == [[0, 13]] * 2
    assert read_ids(Path("out/train.txt")) == ["000000000009"] and read_ids(Path("out/val.txt")) == ["000000000042"]
    vectors = read_pickled_dictionary(Path("out/cls_labels.npy"))
    assert list(vectors) == ["000000000009", 9, "000000000042", 42]
    assert all(np.flatnonzero(vector).tolist() == [11] for vector in vectors.values())


def test_trainaug_is_train_and_more() -> None:
    project("voc12", voc12.CLASSES, {"2007_1": "train", "2008_2": "trainaug", "2009_3": "val"})
    run("export-masks", "--out", "out")
    assert read_ids(Path("out/train.txt")) == ["2007_1"]
    assert read_ids(Path("out/trainaug.txt")) == ["2007_1", "2008_2"]
    with Image.open("out/pred_png/2008_2.png") as image:
        assert np.asarray(image).tolist() == [[0, 12], [0, 255]]


def test_there_and_back_is_the_same() -> None:
    project("coco14", coco_classes.CLASSES, {"000000000009": "train"})
    run("export-masks", "--out", "out")
    run("import-masks", "out/pred_png", "--classes", "coco14", "--out", "back")
    assert Path("back/000000000009.png").read_bytes() == Path("data/masks/refined/000000000009.png").read_bytes()


def test_what_a_killed_run_left_is_no_obstacle() -> None:
    Path("released").mkdir()
    Image.fromarray(RELEASED).save("released/a.png")
    Path(".out.part").mkdir()
    Path(".out.part/old.png").touch()
    take_over(out="out")
    assert [path.name for path in Path("out").iterdir()] == ["a.png"] and not Path(".out.part").exists()


def test_nothing_to_hand_over_is_said() -> None:
    write_dataset(Dataset(name="voc12", classes=voc12.CLASSES, records=()), Path("data/dataset"))
    with pytest.raises(WeakClipError, match="there is neither data/masks/refined nor data/masks/scores"):
        run("export-masks", "--out", "out")
    assert not Path("out").exists()
