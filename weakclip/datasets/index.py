"""The dataset index: classes, images, tags and splits, as `prepare_dataset` writes and all later stages read them."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from weakclip.errors import WeakClipError

SPLITS: Final = ("train", "trainaug", "val")
FORMAT: Final = 1  # of a dataset.json that names none; whoever changes what an index means writes `format` and raises this
COLUMNS: Final = ("image_id", "photo", "height", "width", "split", "tags", "mask")


@dataclass(frozen=True, kw_only=True)
class ClassList:
    """The foreground classes in the order of their indices 1..K-1, with other words for them.

    ``synonyms``: one tuple per class, perhaps empty. ``background_words``: things that are seen but are no class.
    """

    names: tuple[str, ...]
    synonyms: tuple[tuple[str, ...], ...]
    background_words: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.synonyms) != len(self.names):
            raise ValueError(f"{len(self.names)} classes need {len(self.names)} tuples of synonyms, got {len(self.synonyms)}")

    @property
    def num_classes(self) -> int:
        """K, background included."""
        return 1 + len(self.names)

    @property
    def with_background(self) -> tuple[str, ...]:
        """K names by index, ``background`` first."""
        return ("background", *self.names)


@dataclass(frozen=True, kw_only=True)
class Record:
    """One image.

    ``photo``, ``mask``: relative to the project root. ``height``, ``width``: pixels of the upright photo.
    ``split``: train, trainaug or val. ``tags``: class indices from 1, ascending.
    """

    image_id: str
    photo: Path
    height: int
    width: int
    split: str
    tags: tuple[int, ...]
    mask: Path | None


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Classes and records, the records sorted by ``image_id``, which is unique."""

    name: str
    classes: ClassList
    records: tuple[Record, ...]

    def __post_init__(self) -> None:
        for before, after in pairwise(self.records):
            if before.image_id >= after.image_id:
                raise ValueError(f"records must ascend by image_id, got {before.image_id!r} before {after.image_id!r}")

    @property
    def training(self) -> tuple[Record, ...]:
        """What models are trained on: train (whose figures are reported) and trainaug."""
        return tuple(record for record in self.records if record.split != "val")

    @property
    def val(self) -> tuple[Record, ...]:
        return tuple(record for record in self.records if record.split == "val")

    def labelled(self, split: str) -> tuple[Record, ...]:
        """The records of a split that have a mask."""
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        return tuple(record for record in self.records if record.split == split and record.mask is not None)


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A file that was left out of the dataset, and why."""

    file: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Collection:
    """What a reader of a dataset layout found: the dataset, what it left out, and what the user should be told."""

    dataset: Dataset
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()


def write_dataset(dataset: Dataset, folder: Path, skipped: Sequence[Skipped] = ()) -> None:
    """Write ``dataset.json``, ``images.csv`` and ``skipped.csv`` into a folder, which is made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    classes = dataset.classes
    document = {
        "name": dataset.name,
        "classes": list(classes.names),
        "synonyms": {name: list(words) for name, words in zip(classes.names, classes.synonyms, strict=True) if words},
        "background_words": list(classes.background_words),
    }
    (folder / "dataset.json").write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    rows = [
        (
            record.image_id,
            record.photo.as_posix(),
            record.height,
            record.width,
            record.split,
            ";".join(classes.names[tag - 1] for tag in record.tags),
            record.mask.as_posix() if record.mask else "",
        )
        for record in dataset.records
    ]
    write_table(folder / "images.csv", COLUMNS, rows)
    write_table(folder / "skipped.csv", ("file", "reason"), [(item.file, item.reason) for item in skipped])


def write_table(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def read_dataset(folder: Path) -> Dataset:
    """The dataset that `write_dataset` wrote.

    Raises:
        WeakClipError: names the file that is missing or damaged.
    """
    for name in ("dataset.json", "images.csv"):
        if not (folder / name).is_file():
            raise WeakClipError(f"{folder / name} is missing", "`dvc repro prepare_dataset` writes it")
    try:
        document = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
        if document.get("format", FORMAT) != FORMAT:
            raise ValueError(f"it has format {document['format']}, this version reads {FORMAT}")
        names = tuple(document["classes"])
        classes = ClassList(
            names=names,
            synonyms=tuple(tuple(document["synonyms"].get(name, ())) for name in names),
            background_words=tuple(document["background_words"]),
        )
        index = {name: 1 + position for position, name in enumerate(names)}
        with (folder / "images.csv").open(encoding="utf-8", newline="") as file:
            records = tuple(parse_record(row, index) for row in csv.DictReader(file))
        return Dataset(name=document["name"], classes=classes, records=records)
    except (KeyError, TypeError, AttributeError, ValueError, csv.Error) as error:
        problem = f"{folder} does not hold a dataset index: {type(error).__name__}: {error}"
        raise WeakClipError(problem, "write it anew: `dvc repro --force prepare_dataset`") from error


def parse_record(row: dict[str, str], index: dict[str, int]) -> Record:
    if row["split"] not in SPLITS:
        raise ValueError(f"{row['image_id']} is in the unknown split {row['split']!r}")
    return Record(
        image_id=row["image_id"],
        photo=Path(row["photo"]),
        height=int(row["height"]),
        width=int(row["width"]),
        split=row["split"],
        tags=tuple(index[tag] for tag in row["tags"].split(";")) if row["tags"] else (),
        mask=Path(row["mask"]) if row["mask"] else None,
    )
