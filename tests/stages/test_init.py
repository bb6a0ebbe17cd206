"""`weakclip init`: what it makes of folders as people have them, read back by the pipeline's own reader."""

from __future__ import annotations

import json
import re
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


@pytest.mark.parametrize("sign", [";", "\t"])
def test_columns_may_be_parted_as_spreadsheets_do(photos: Path, sign: str) -> None:
    (photos / "labels.csv").write_text(f'image{sign}tags\ncat/0.jpg{sign}cat\nbig_dog/0.jpg{sign}"dog;cat"\n')
    init(photos)
    assert {name: set(found) for name, found in tags().items()} == {"cat_0": {"cat"}, "big_dog_0": {"cat", "dog"}}


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


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("labels.csv", "image,tags\ncat/0.jpg," + "x" * 200_000 + "\n", "line 2: field larger"),
        ("labels.csv", 'image,tags\ncat/0.jpg,"cat\n', "line 2: unexpected end"),
        ("labels.csv", "image,tags\ncat/0.jpg,cat,dog\n", "line 2: it has more cells"),
        ("labels.json", "[" * 100_000, "cannot be read as JSON"),
        ("labels.json", '{"cat/0.jpg": [' + "1" * 5000 + "]}", "cannot be read as JSON"),
        ("labels.json", '{"cat/0.jpg": ["c\\ud800t"]}', "is not Unicode text"),
        ("splits", "", "splits is no folder"),
        ("masks", "", "masks is no folder"),
        ("classes.txt/x", "", "classes.txt is no file"),
    ],
)
def test_files_of_enemies_are_refused_and_nothing_is_written(photos: Path, name: str, content: str, problem: str) -> None:
    (photos / name).parent.mkdir(exist_ok=True)
    (photos / name).write_text(content)
    before = sorted(photos.rglob("*"))
    with pytest.raises(WeakClipError, match=problem):
        init(photos)
    assert sorted(photos.rglob("*")) == before and not Path("params.yaml").exists()


def test_two_entries_of_a_photo_are_put_together(photos: Path) -> None:
    (photos / "labels.json").write_text('{"cat/0.jpg": ["cat"], "cat/0.jpg": ["dog"], "cat/1.jpg": "cat"}')
    init(photos)
    assert tags()["cat_0"] == ["cat", "dog"]


def test_lists_that_are_no_text_are_kept_until_told(photos: Path) -> None:
    (photos / "splits").mkdir()
    (photos / "splits" / "train.txt").write_bytes(b"k\xe4se\n")
    with pytest.raises(WeakClipError, match=r"has splits/train\.txt already"):
        init(photos)
    init(photos, "--overwrite")
    assert (photos / "splits" / "train.txt").read_text().startswith("big_dog/0.jpg\n")


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


def test_a_folder_without_photos_and_tags_that_are_elsewhere_are_named(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeakClipError, match="empty holds no photos") as caught:
        init(tmp_path / "empty")
    assert ".jpg" in caught.value.hint
    with pytest.raises(WeakClipError, match=r"labels\.csv is not there") as caught:
        init(photos, "--tags", str(photos / "labels.csv"))
    assert f"`--tags {photos}`" in caught.value.hint
    with pytest.raises(WeakClipError, match="empty is another folder than"):
        init(photos, "--tags", str(tmp_path / "empty"))


def test_folders_in_one_folder_may_be_the_classes(photos: Path) -> None:
    said = init(photos)
    assert "all photos lie in" not in said
    (photos.parent / "download").mkdir()
    photos.rename(photos.parent / "download" / "pets")
    said = init(photos.parent / "download")
    assert (
        f"all photos lie in pets; if the classes are big_dog, cat: `weakclip init {photos.parent / 'download' / 'pets'}`"
        in said
    )
    assert "all photos show pets: " in said


def test_a_class_that_all_photos_show_is_noted(photos: Path) -> None:
    assert "all photos show" not in init(photos)
    (photos / "labels.csv").write_text("image,tags\ncat/0.jpg,cat\nbig_dog/0.jpg,cat;big dog\n")
    assert "all photos show cat: " in init(photos, "--tags", str(photos / "labels.csv"), "--overwrite")


def test_parameters_that_fit_are_kept_with_what_was_changed_in_them(photos: Path) -> None:
    params, other = Path("params.yaml"), Path("params.yaml.bak")
    init(photos)
    changed = re.sub(r"^lr: \S+", "lr: 0.5", params.read_text(), flags=re.MULTILINE)
    params.write_text(changed)
    assert "params.yaml is for a folder of photos already and stays as it is" in init(photos)
    assert params.read_text() == changed and not other.exists()
    assert Path("data/raw/photos").resolve() == photos
    init(photos, "--preset", "folder-openai")
    assert "ViT-B-16" in params.read_text() and other.read_text() == changed
    params.write_text("lr: 1\n")
    init(photos)
    assert "name: folder " in params.read_text()
