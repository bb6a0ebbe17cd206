"""`weakclip init`: what it makes of folders as people have them, read back by the pipeline's own reader."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from stages.cli import app
from weakclip.datasets.folder import read_folder
from weakclip.datasets.index import Collection
from weakclip.errors import WeakClipError


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("WEAKCLIP_WORKERS", "1")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six cats and six dogs in folders, some of one file name."""
    for name in ("cat", "big_dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(6):
            Image.new("RGB", (16, 12), "teal").save(tmp_path / "photos" / name / f"{number}.jpg")
    return tmp_path / "photos"


def init(photos: Path, *options: str) -> str:
    result = CliRunner().invoke(app, ["init", str(photos), *options], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def read() -> Collection:
    return read_folder(Path("data/raw"), tags_from="csv", on_error="skip", val_share=0.5, seed=1)


def tags() -> dict[str, list[str]]:
    dataset = read().dataset
    return {record.image_id: [dataset.classes.names[tag - 1] for tag in record.tags] for record in dataset.records}


def test_subfolders_become_classes(photos: Path) -> None:
    said = init(photos)
    assert f"12 photos in {photos}; tags from {photos}" in said
    assert "       6  cat\n" in said and "the class 'big_dog' is called 'big dog'" in said
    assert tags() == {f"big_dog_{n}": ["big dog"] for n in range(6)} | {f"cat_{n}": ["cat"] for n in range(6)}
    splits = [record.split for record in read().dataset.records]
    assert (splits.count("train"), splits.count("val")) == (11, 1)
    assert "name: folder " in Path("params.yaml").read_text()


def test_a_second_run_changes_nothing_and_new_photos_are_taken_when_told(photos: Path) -> None:
    init(photos)
    before = {path: path.read_bytes() for path in sorted(photos.rglob("*")) if path.is_file()}
    init(photos)
    assert before == {path: path.read_bytes() for path in sorted(photos.rglob("*")) if path.is_file()}
    Image.new("RGB", (16, 12)).save(photos / "cat" / "new.jpg")
    with pytest.raises(WeakClipError, match=r"has tags\.csv, splits/.*already, which would become different"):
        init(photos, "--tags", str(photos))
    assert before == {path: path.read_bytes() for path in before}
    init(photos, "--tags", str(photos), "--overwrite")
    assert tags()["new"] == ["cat"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels.csv", "File,label\ncat/0.jpg,cat\nbig_dog/0,dog|Cat\ncat/0.jpg,dog\n/home/me/gone.jpg,cat\n"),
        ("labels.json", json.dumps({"cat/0.jpg": "cat,dog", "big_dog/0.jpg": ["dog", "cat"], "gone.jpg": ["cat"]})),
        (
            "labels.json",
            json.dumps([{"image": a, "tags": b} for a, b in (("cat/0", "cat;dog"), ("big_dog/0", ["dog", "cat"]), ("x", ""))]),
        ),
    ],
)
def test_tags_are_read_from_tables_and_json(photos: Path, name: str, text: str) -> None:
    (photos / name).write_text(text)
    said = init(photos)
    assert f"rows of {name} whose photo is not there: 1" in said
    assert "photos without a class, which are left out: 10" in said
    found = tags()
    assert set(found) == {"cat_0", "big_dog_0"} and all(set(names) == {"cat", "dog"} for names in found.values())


def test_train_and_val_folders_are_splits(photos: Path) -> None:
    for split in ("train", "val", "test"):
        for name, number in (("cat", 1), ("big_dog", 2)):
            (photos / split / name).mkdir(parents=True)
            (photos / name / f"{number}.jpg").rename(photos / split / name / f"{number}.jpg")
            Image.new("RGB", (16, 12), "teal").save(photos / name / f"{number}.jpg")
    for name in ("cat", "big_dog"):
        for path in (photos / name).iterdir():
            path.unlink()
        (photos / name).rmdir()
    assert "photos under test/, which have no use beside val/: 2" in init(photos)
    found = {record.image_id: (record.split, record.tags) for record in read().dataset.records}
    assert found == {
        "train_cat_1": ("train", (2,)),
        "train_big_dog_2": ("train", (1,)),
        "val_cat_1": ("val", (2,)),
        "val_big_dog_2": ("val", (1,)),
    }


def test_own_lists_are_kept(photos: Path) -> None:
    (photos / "classes.txt").write_text("big dog: hound\ncat\n[background]\ngrass\n")
    (photos / "tags.csv").write_text("image,tags\ncat/0.jpg,cat\nbig_dog/1.jpg,big dog\n")
    before = [(photos / name).read_bytes() for name in ("classes.txt", "tags.csv")]
    init(photos)
    assert before == [(photos / name).read_bytes() for name in ("classes.txt", "tags.csv")]
    assert tags() == {"cat_0": ["cat"], "big_dog_1": ["big dog"]}


def test_what_cannot_be_used_is_said(photos: Path) -> None:
    (photos / "cat" / "broken.jpg").write_bytes(b"no photo")
    (photos / "cat" / "film.mp4").touch()
    Image.new("RGB", (16, 12)).save(photos / "loose.jpg")
    said = init(photos)
    assert "broken.jpg is not an image" in said and "files that are no photos (.mp4): 1" in said
    assert "photos without a class, which are left out: 1 (loose)" in said
    assert "background" not in tags() and len(tags()) == 12


def test_what_nothing_can_be_made_of_is_refused_and_nothing_is_written(photos: Path) -> None:
    with pytest.raises(WeakClipError, match="says nothing of what the 6 photos show"):
        init(photos / "cat")
    for name in ("a.csv", "b.json"):
        (photos / name).write_text("{}")
    with pytest.raises(WeakClipError, match=r"several files that may hold tags: a\.csv, b\.json"):
        init(photos)
    (photos / "a.csv").write_text("x,y\n1,2\n")
    with pytest.raises(WeakClipError, match="it is not plain which names the photo"):
        init(photos, "--tags", str(photos / "a.csv"))
    with pytest.raises(WeakClipError, match="'voc12' is not a preset for a folder"):
        init(photos, "--preset", "voc12")
    for name in ("a.csv", "b.json"):
        (photos / name).unlink()
    (photos / "tags.csv").write_text("image,tags\ncat/0.jpg,big_dog\n")
    with pytest.raises(WeakClipError) as caught:
        init(photos)
    assert "unknown tag 'big_dog'" in caught.value.problem and "labels.csv" in caught.value.hint
    assert not Path("params.yaml").exists() and not (photos / "classes.txt").exists()
