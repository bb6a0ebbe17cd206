"""The index that prepare_dataset writes and all later stages read."""

from __future__ import annotations

import pickle
import tracemalloc
from pathlib import Path

import pytest

from weakclip.datasets.index import ClassList, Dataset, Record, Skipped, read_dataset, write_dataset
from weakclip.errors import WeakClipError

CLASSES = ClassList(names=("cat", "traffic light"), synonyms=(("kitten",), ()), background_words=("grass", "Straße"))


def record(image_id: str, split: str, tags: tuple[int, ...] = (1,), *, mask: bool = False) -> Record:
    return Record(
        image_id=image_id,
        photo=f"data/raw/images/{image_id}.jpg",
        height=30,
        width=40,
        split=split,
        tags=tags,
        mask=f"data/raw/masks/{image_id}.png" if mask else None,
        crc32=0xBEEF,
    )


DATASET = Dataset(
    name="folder",
    classes=CLASSES,
    records=(
        record("a", "train", (1, 2)),
        record("b, c;d", "trainaug", (2,), mask=True),
        record("e", "train", mask=True),
        record('猫 "x"', "val", (), mask=True),
    ),
)


def test_class_indices_count_background() -> None:
    assert CLASSES.num_classes == 3
    assert CLASSES.with_background == ("background", "cat", "traffic light")
    with pytest.raises(ValueError, match="1 classes need 1 tuples of synonyms, got 0"):
        ClassList(names=("cat",), synonyms=(), background_words=())


def test_training_is_train_and_trainaug() -> None:
    assert [r.image_id for r in DATASET.training] == ["a", "b, c;d", "e"]
    assert [r.image_id for r in DATASET.val] == ['猫 "x"']


def test_labelled_records_have_a_mask() -> None:
    assert [r.image_id for r in DATASET.labelled("train")] == ["e"]
    assert [r.image_id for r in DATASET.labelled("trainaug")] == ["b, c;d"]
    with pytest.raises(ValueError, match="split must be one of train, trainaug, val, got 'test'"):
        DATASET.labelled("test")


@pytest.mark.parametrize("ids", [("b", "a"), ("a", "a")])
def test_records_ascend_by_a_unique_id(ids: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="ascend"):
        Dataset(name="x", classes=CLASSES, records=tuple(record(image_id, "train") for image_id in ids))


def test_a_dataset_comes_back_as_it_was_written(tmp_path: Path) -> None:
    write_dataset(DATASET, tmp_path / "dataset")
    assert read_dataset(tmp_path / "dataset") == DATASET


def test_the_same_dataset_gives_the_same_bytes(tmp_path: Path) -> None:
    skipped = [Skipped(file="data/raw/images/z.jpg", reason="z.jpg is empty (0 bytes)")]
    for name in ("one", "two"):
        write_dataset(DATASET, tmp_path / name, skipped)
    for file in ("dataset.json", "images.csv", "skipped.csv"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_the_tables_are_plain_csv(tmp_path: Path) -> None:
    write_dataset(DATASET, tmp_path, [Skipped(file="z.jpg", reason="is empty, alas")])
    lines = (tmp_path / "images.csv").read_text(encoding="utf-8").split("\n")
    assert lines[0] == "image_id,photo,height,width,split,tags,mask,crc32"
    assert lines[1] == "a,data/raw/images/a.jpg,30,40,train,cat;traffic light,,0000beef"
    assert (tmp_path / "skipped.csv").read_bytes() == b'file,reason\nz.jpg,"is empty, alas"\n'


def test_a_missing_index_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(WeakClipError, match=r"dataset\.json is missing") as info:
        read_dataset(tmp_path)
    assert info.value.hint == "`dvc repro prepare_dataset` writes it"


def test_a_dataset_that_was_read_takes_a_few_bytes_an_image(tmp_path: Path) -> None:
    count = 5000
    records = tuple(record(f"{number:06d}", "val" if number % 10 == 0 else "train", mask=True) for number in range(count))
    write_dataset(Dataset(name="folder", classes=CLASSES, records=records), tmp_path)
    read_dataset(tmp_path)  # what is made once is not counted
    tracemalloc.start()
    dataset = read_dataset(tmp_path)
    training = dataset.training
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 12 * count  # where it starts, and its place in the selection: four bytes each
    assert training[17] == records[19] and len(training) == 4500


def test_records_that_were_read_are_a_sequence(tmp_path: Path) -> None:
    write_dataset(DATASET, tmp_path)
    records = read_dataset(tmp_path).records
    assert records[-1].image_id == '猫 "x"' and records[-1] == DATASET.records[-1]
    assert records[1:3] == DATASET.records[1:3]
    assert pickle.loads(pickle.dumps(records[::3])) == DATASET.records[::3]
    with pytest.raises(IndexError):
        records[4]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (b"cat;traffic light", b"cat;dog", "line 2: KeyError: 'dog'"),
        (b"e,data/raw/images/e.jpg,30,40,train", b"e", "line 4: ValueError: 4 cells where the heading has 8"),
        (b"image_id", b"name", "line 1: ValueError: expected the heading image_id,photo,"),
        (b",val,", b",v\xff,", "line 5: UnicodeDecodeError"),
    ],
)
def test_the_line_of_the_table_that_is_damaged_is_named(tmp_path: Path, old: bytes, new: bytes, problem: str) -> None:
    write_dataset(DATASET, tmp_path)
    table = (tmp_path / "images.csv").read_bytes()
    (tmp_path / "images.csv").write_bytes(table.replace(old, new, 1))
    with pytest.raises(WeakClipError) as caught:
        read_dataset(tmp_path)
    assert f"images.csv, {problem}" in caught.value.problem


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("images.csv", "cat;traffic light", "cat;dog"),
        ("images.csv", ",30,", ",high,"),
        ("images.csv", ",val,", ",test,"),
        ("images.csv", "image_id", "name"),
        ("images.csv", "e,data/raw/images/e.jpg,30,40,train", "e"),
        ("dataset.json", '"classes"', '"labels"'),
        ("dataset.json", "{", ""),
        ("dataset.json", "{", '{"format": 2, '),
    ],
)
def test_a_damaged_index_is_refused(tmp_path: Path, file: str, old: str, new: str) -> None:
    write_dataset(DATASET, tmp_path)
    text = (tmp_path / file).read_text(encoding="utf-8")
    (tmp_path / file).write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(WeakClipError, match="does not hold a dataset index"):
        read_dataset(tmp_path)
