"""Any folder of photos with tags as a dataset."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from weakclip.datasets.folder import draw_splits, find_candidates, read_folder
from weakclip.datasets.index import Collection
from weakclip.datasets.verification import Candidate
from weakclip.errors import WeakClipError
from weakclip.masks import write_mask


@pytest.fixture(autouse=True)
def one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEAKCLIP_WORKERS", "1")


def photo(path: Path, height: int = 12, width: int = 16, orientation: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.new("RGB", (width, height), "teal").save(path, exif=exif)


def mask(path: Path, index: int = 1, shape: tuple[int, int] = (12, 16)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.zeros(shape, dtype=np.uint8)
    values[:4], values[4] = index, 255
    write_mask(path, values)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Six photos, four with tags for training and two for validation."""
    for name in "abcdef":
        photo(tmp_path / "images" / f"{name}.jpg")
    (tmp_path / "classes.txt").write_text("cat\ndog: puppy\n[background]\ngrass\n")
    (tmp_path / "tags.csv").write_text("image,tags\na,cat\nb,dog\nc,cat;dog\nd,dog\ne,cat\n")
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / "train.txt").write_text("a\nb\nc\nd\n")
    (tmp_path / "splits" / "val.txt").write_text("e\nf\n")
    return tmp_path


def read(raw: Path, *, on_error: str = "stop", tags_from: str = "csv", val_share: float = 0.1, seed: int = 0) -> Collection:
    return read_folder(raw, tags_from=tags_from, on_error=on_error, val_share=val_share, seed=seed)


def splits(collection: Collection) -> dict[str, str]:
    return {record.image_id: record.split for record in collection.dataset.records}


def problem(raw: Path, **settings: str) -> str:
    with pytest.raises(WeakClipError) as info:
        read(raw, **settings)  # type: ignore[arg-type]
    return info.value.problem


def test_of_what_names_are_looked_up_in_nothing_stays(tmp_path: Path) -> None:
    count = 4000
    names = [f"tiny_{number:08d}" for number in range(count)]
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
        for image_id in names:
            (tmp_path / name / f"{image_id}.png").touch()
    (tmp_path / "classes.txt").write_text("cat\n")
    (tmp_path / "tags.csv").write_text("image,tags\n" + "".join(f"{image_id},cat\n" for image_id in names))

    def find() -> Sequence[Candidate]:
        return find_candidates(tmp_path, tags_from="csv", skip=False, val_share=0.1, seed=0).candidates

    find()  # what is made once is not counted
    tracemalloc.start()
    found = find()
    kept, highest = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found[17].image_id == names[17] and len(found) == count
    assert kept < 50 * count
    assert highest < 850 * count


def test_photos_tags_splits_and_masks_make_a_dataset(raw: Path) -> None:
    mask(raw / "masks" / "a.png")
    mask(raw / "masks" / "e.png")
    collection = read(raw)
    assert splits(collection) == {"a": "train", "b": "train", "c": "train", "d": "train", "e": "val", "f": "val"}
    assert collection.dataset.classes.names == ("cat", "dog")
    assert collection.skipped == () and collection.notes == ()
    first = collection.dataset.records[0]
    assert (first.photo, first.height, first.width) == (str(raw / "images" / "a.jpg"), 12, 16)
    assert first.mask == str(raw / "masks" / "a.png")
    assert [record.tags for record in collection.dataset.records] == [(1,), (2,), (1, 2), (2,), (1,), ()]
    assert [record.image_id for record in collection.dataset.labelled("val")] == ["e"]


def test_the_size_is_that_of_the_upright_photo_and_masks_must_fit_it(raw: Path) -> None:
    photo(raw / "images" / "a.jpg", 12, 16, orientation=6)
    mask(raw / "masks" / "a.png", shape=(16, 12))
    record = read(raw).dataset.records[0]
    assert (record.height, record.width) == (16, 12)


def test_photos_may_lie_behind_a_link(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    project = tmp_path_factory.mktemp("project")
    (project / "photos").symlink_to(raw, target_is_directory=True)
    records = read(project).dataset.records
    assert len(records) == 6
    assert records[0].photo == str(project / "photos" / "images" / "a.jpg")


def test_the_empty_folder_behind_the_link_of_a_fresh_project_hides_nothing(raw: Path) -> None:
    (raw / "local").mkdir()
    (raw / "photos").symlink_to("local", target_is_directory=True)
    assert read(raw).dataset.records[0].photo == str(raw / "images" / "a.jpg")
    (raw / "images").rename(raw / "elsewhere")
    assert problem(raw) == f"{raw}/photos/images is missing: there are no photos"


def test_a_link_that_leads_nowhere_is_named(raw: Path) -> None:
    (raw / "photos").symlink_to("/no/such/drive", target_is_directory=True)
    assert problem(raw) == f"{raw}/photos leads to /no/such/drive, which is not there"


def test_folders_may_be_nested_linked_and_loop(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (raw / "images" / "a.jpg").rename(elsewhere / "a.jpg")
    (raw / "images" / "deep" / "er").mkdir(parents=True)
    (raw / "images" / "b.jpg").rename(raw / "images" / "deep" / "er" / "b.jpg")
    (raw / "images" / "linked").symlink_to(elsewhere, target_is_directory=True)
    (raw / "images" / "deep" / "loop").symlink_to(raw / "images", target_is_directory=True)
    photos = [Path(record.photo).relative_to(raw).as_posix() for record in read(raw).dataset.records[:3]]
    assert photos == ["images/linked/a.jpg", "images/deep/er/b.jpg", "images/c.jpg"]


def test_hidden_files_and_files_that_are_no_photos_are_overlooked(raw: Path) -> None:
    for name in (".DS_Store", "._a.jpg", "Thumbs.db", "notes.txt"):
        (raw / "images" / name).write_text("x")
    assert len(read(raw).dataset.records) == 6


def test_two_photos_of_one_name_are_refused_by_both_paths(raw: Path) -> None:
    photo(raw / "images" / "a.png")
    assert problem(raw, on_error="skip") == f"{raw}/images/a.jpg and {raw}/images/a.png would both be the image 'a'"


def test_photos_of_one_name_in_several_folders_are_told_apart_by_these(raw: Path) -> None:
    for folder in ("cat", "dog"):
        photo(raw / "images" / folder / "1.jpg")
    mask(raw / "masks" / "dog" / "1.png")
    mask(raw / "masks" / "cat_1.png", index=2)
    (raw / "splits" / "train.txt").write_text("a\nb\nc\nd\ncat/1\ndog/1.jpg\n")
    (raw / "tags.csv").write_text("image,tags\na,cat\nb,dog\nc,cat\nd,dog\ne,cat\ncat/1.jpg,cat\ndog/1,dog\n")
    found = {record.image_id: record for record in read(raw).dataset.records}
    assert [found[name].tags for name in ("cat_1", "dog_1")] == [(1,), (2,)]
    assert [found[name].mask for name in ("cat_1", "dog_1")] == [f"{raw}/masks/cat_1.png", f"{raw}/masks/dog/1.png"]
    (raw / "tags.csv").write_text("image,tags\n1,cat\n")
    assert "there is no photo '1'" in problem(raw)


def test_photos_may_lie_beside_the_lists(raw: Path) -> None:
    before = [record.image_id for record in read(raw).dataset.records]
    mask(raw / "masks" / "a.png")
    (raw / "images" / "a.jpg").rename(raw / "a.jpg")
    (raw / "images").rename(raw / "others")
    after = read(raw).dataset.records
    assert [record.image_id for record in after] == before
    assert [after[0].photo, after[1].photo] == [f"{raw}/a.jpg", f"{raw}/others/b.jpg"]
    assert after[0].mask == f"{raw}/masks/a.png"


def test_without_photos_there_is_a_hint_how_to_link_them(tmp_path: Path) -> None:
    with pytest.raises(WeakClipError, match=r"images is missing") as info:
        read(tmp_path)
    assert "weakclip preset folder --root DIR" in info.value.hint
    (tmp_path / "images").mkdir()
    assert "holds no photos" in problem(tmp_path)


def test_exactly_one_tags_file_is_wanted(raw: Path) -> None:
    (raw / "tags.json").write_text('{"a": ["cat"]}')
    assert "are both there" in problem(raw)
    (raw / "tags.csv").unlink()
    assert "2 images cannot be used" not in problem(raw)
    (raw / "tags.json").write_text('{"a": ["cat"], "b": ["dog"], "c": ["dog"], "d.jpg": ["dog"]}')
    assert len(read(raw).dataset.training) == 4
    (raw / "tags.json").unlink()
    assert "tags.csv is missing" in problem(raw)


def test_unusable_photos_stop_the_stage_by_name_or_are_left_out(raw: Path) -> None:
    (raw / "images" / "a.jpg").write_bytes(b"")
    (raw / "images" / "b.jpg").write_bytes((raw / "images" / "c.jpg").read_bytes()[:300])
    photo(raw / "images" / "e.jpg", 7, 16)
    with pytest.raises(WeakClipError) as info:
        read(raw)
    assert info.value.problem.startswith(
        f"3 images cannot be used: {raw}/images/a.jpg is empty (0 bytes); {raw}/images/b.jpg is"
    )
    assert "dataset.on_error" in info.value.hint and "skip" in info.value.hint
    collection = read(raw, on_error="skip")
    assert splits(collection) == {"c": "train", "d": "train", "f": "val"}
    assert [Path(item.file).name for item in collection.skipped] == ["a.jpg", "b.jpg", "e.jpg"]
    assert "at least 8" in collection.skipped[2].reason


def test_masks_must_fit_photo_and_classes(raw: Path) -> None:
    mask(raw / "masks" / "a.png", shape=(11, 16))
    mask(raw / "masks" / "b.png", index=3)
    mask(raw / "masks" / "c.png", index=2)
    Image.new("RGB", (16, 12)).save(raw / "masks" / "d.png")
    reasons = [item.reason for item in read(raw, on_error="skip").skipped]
    assert reasons[0] == f"{raw}/masks/a.png is 16 x 11 pixels, its photo 16 x 12"
    assert reasons[1] == f"{raw}/masks/b.png holds the index 3; there are 3 classes, 0 to 2, and 255"
    assert reasons[2].startswith(f"{raw}/masks/d.png is not a mask")
    assert "3 images cannot be used" in problem(raw)


def test_a_training_image_needs_a_tag(raw: Path) -> None:
    (raw / "tags.csv").write_text("image,tags\na,\nb,dog\nc,cat\n")
    assert problem(raw).startswith(f"2 images cannot be used: {raw}/images/a.jpg: it has no tag; training needs at least one")
    collection = read(raw, on_error="skip")
    assert splits(collection) == {"b": "train", "c": "train", "e": "val", "f": "val"}
    assert len(collection.skipped) == 2


def test_nothing_left_to_train_on_is_an_error_even_when_skipping(raw: Path) -> None:
    (raw / "tags.csv").write_text("image,tags\n")
    assert problem(raw, on_error="skip").startswith("no image with tags is left to train on: 4 images cannot be used")


def test_photos_listed_but_not_there_stop_the_stage_or_are_left_out_once(raw: Path) -> None:
    (raw / "images" / "a.jpg").unlink()
    assert problem(raw) == f"{raw}/tags.csv: line 2: there is no photo 'a'"
    collection = read(raw, on_error="skip")
    assert [(item.file, item.reason) for item in collection.skipped] == [
        ("a", f"{raw}/tags.csv: line 2: there is no photo 'a'")
    ]
    (raw / "tags.csv").write_text("image,tags\nb,dog\nc,cat\nd,dog\n")
    assert problem(raw) == f"{raw}/splits/train.txt: line 1: there is no photo 'a'"


def test_unknown_tags_are_an_error_even_when_skipping(raw: Path) -> None:
    (raw / "tags.csv").write_text("image,tags\na,bat\nb,dog\n")
    assert "line 2: unknown tag 'bat'" in problem(raw, on_error="skip")


def test_an_image_in_both_splits_is_refused(raw: Path) -> None:
    (raw / "splits" / "val.txt").write_text("a\ne\n")
    assert problem(raw).startswith(f"a is in both {raw}/splits/train.txt and {raw}/splits/val.txt")


def test_val_is_optional_and_what_is_in_no_split_is_counted(raw: Path) -> None:
    (raw / "splits" / "val.txt").unlink()
    collection = read(raw)
    assert set(splits(collection).values()) == {"train"}
    assert collection.notes == ("photos that are in no split and left out: 2",)


def test_files_in_masks_that_belong_to_nothing_are_told(raw: Path) -> None:
    mask(raw / "masks" / "z.png")
    Image.new("L", (16, 12)).save(raw / "masks" / "a.jpg")
    assert read(raw).notes == (
        f"files in {raw}/masks that are no PNGs and not used: 1",
        f"masks in {raw}/masks that have no photo of their name: 1",
    )


def test_without_splits_a_seeded_share_is_held_out(raw: Path) -> None:
    (raw / "splits" / "train.txt").unlink()
    (raw / "splits" / "val.txt").unlink()
    (raw / "splits").rmdir()
    mask(raw / "masks" / "f.png")
    found = splits(read(raw, val_share=0.34))
    assert list(found.values()).count("val") == 2
    assert found.get("f") in ("val", None)  # without a tag it is never trained on
    assert found == splits(read(raw, val_share=0.34))


def test_the_draw_follows_seed_and_share() -> None:
    ids = [f"{number:03d}" for number in range(200)]

    def draw(seed: int, image_ids: list[str] = ids, share: float = 0.1) -> set[str]:
        found = draw_splits(image_ids, with_tags=set(image_ids), with_mask=set(), val_share=share, seed=seed)
        assert found.keys() == set(image_ids)
        return {image_id for image_id, split in found.items() if split == "val"}

    assert len(draw(0)) == 20
    assert draw(0) == draw(0, ids[::-1])
    assert len(draw(0) & draw(1)) < 10
    assert len(draw(0) - draw(0, [*ids, "one more"])) <= 1
    assert draw(0, share=0.0) == set()
    assert draw(0, ["only"], share=0.9) == set()


def test_tags_come_from_masks_only_when_asked_and_then_it_is_said(raw: Path) -> None:
    (raw / "tags.csv").unlink()
    for name, index in (("a", 2), ("b", 1), ("c", 1), ("d", 1)):
        mask(raw / "masks" / f"{name}.png", index=index)
    collection = read(raw, tags_from="masks")
    assert [record.tags for record in collection.dataset.training] == [(2,), (1,), (1,), (1,)]
    assert any("ground-truth masks" in note for note in collection.notes)


@pytest.mark.parametrize("tags_from", ["xml", "npy"])
def test_tag_sources_of_voc_are_refused(raw: Path, tags_from: str) -> None:
    assert problem(raw, tags_from=tags_from).startswith(f"dataset.tags_from is {tags_from}")


def test_a_file_name_that_is_not_utf8_is_refused_in_writing(raw: Path) -> None:
    odd = os.fsencode(raw / "images") + b"/k\xe4se.jpg"
    Path(os.fsdecode(odd)).write_bytes((raw / "images" / "a.jpg").read_bytes())
    assert problem(raw) == f"{raw}/images/k\\xe4se.jpg: the file name is not UTF-8"
    assert len(read(raw, on_error="skip").dataset.records) == 6


def test_two_processes_find_what_one_finds(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(70):
        photo(raw / "images" / f"x{number:02d}.jpg")
    (raw / "images" / "x07.jpg").write_bytes(b"")
    with (raw / "splits" / "val.txt").open("a") as file:
        file.writelines(f"x{number:02d}\n" for number in range(70))
    one = read(raw, on_error="skip")
    monkeypatch.setenv("WEAKCLIP_WORKERS", "2")
    assert read(raw, on_error="skip") == one
