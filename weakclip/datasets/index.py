"""The dataset index: classes, images, tags and splits, as `prepare_dataset` writes and all later stages read them."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain, pairwise
from pathlib import Path
from typing import IO, Any, Final

from weakclip.datasets.parsed_rows import ParsedRows
from weakclip.disk_space import write_whole, written_aside
from weakclip.errors import WeakClipError
from weakclip.sealed import sealed, unsealed
from weakclip.selection import select

SPLITS: Final = ("train", "trainaug", "val")
FORMAT: Final = 1  # of a dataset.json that names none; whoever changes what an index means writes `format` and raises this
COLUMNS: Final = ("image_id", "photo", "height", "width", "split", "tags", "mask", "crc32")


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One image.

    ``photo``, ``mask``: relative to the project root, and texts (see `weakclip.file_names`). ``height``, ``width``: pixels of
    the upright photo.
    ``split``: train, trainaug or val. ``tags``: class indices from 1, ascending. ``crc32``: of the photo's file, for
    `read_photo`; None where it is not known.
    """

    image_id: str
    photo: str
    height: int
    width: int
    split: str
    tags: tuple[int, ...]
    mask: str | None
    crc32: int | None = None


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Classes and records, the records sorted by ``image_id``, which is unique.

    Records that were read from a file are parsed whenever they are asked for, so that a data set takes little memory.
    """

    name: str
    classes: ClassList
    records: Sequence[Record]

    def __post_init__(self) -> None:
        for before, after in pairwise(self.records):
            if before.image_id >= after.image_id:
                raise ValueError(f"records must ascend by image_id, got {before.image_id!r} before {after.image_id!r}")

    @cached_property
    def training(self) -> Sequence[Record]:
        """What models are trained on: train (whose figures are reported) and trainaug."""
        return select(self.records, lambda record: record.split != "val")

    @cached_property
    def val(self) -> Sequence[Record]:
        """What models are measured on, and never trained on."""
        return select(self.records, lambda record: record.split == "val")

    def labelled(self, split: str) -> Sequence[Record]:
        """The records of a split that have a mask."""
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        return select(self.records, lambda record: record.split == split and record.mask is not None)


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
    """Write ``dataset.json``, ``images.csv`` and ``skipped.csv`` into a folder, which is made if it is not there.

    ``dataset.json`` vouches for itself and for ``images.csv``, and that for the photos.
    """
    folder.mkdir(parents=True, exist_ok=True)
    classes = dataset.classes
    write_whole(folder / "images.csv", table_of(dataset.records, classes))
    with (folder / "images.csv").open("rb") as table:
        digest = _digest(table)
    document = {
        "name": dataset.name,
        "classes": list(classes.names),
        "synonyms": {name: list(words) for name, words in zip(classes.names, classes.synonyms, strict=True) if words},
        "background_words": list(classes.background_words),
        "images": digest,
    }
    text = json.dumps(sealed(document), indent=2, ensure_ascii=False) + "\n"
    write_whole(folder / "dataset.json", text.encode())
    write_table(folder / "skipped.csv", ("file", "reason"), ((item.file, item.reason) for item in skipped))


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV with a header, UTF-8, lines ended by a line feed."""
    write_whole(path, table_lines(header, rows))


class _Line:
    """What a CSV writer writes to: it returns the line."""

    def write(self, text: str) -> bytes:
        return text.encode("utf-8")


def table_lines(header: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[bytes]:
    """Such a CSV, line by line."""
    writer = csv.writer(_Line(), lineterminator="\n")
    for row in chain([header], rows):
        yield writer.writerow(row)  # what `write` returns


def table_of(records: Iterable[Record], classes: ClassList) -> Iterator[bytes]:
    """The records as the lines of ``images.csv``."""
    return table_lines(
        COLUMNS,
        (
            (
                record.image_id,
                record.photo,
                record.height,
                record.width,
                record.split,
                ";".join(classes.names[tag - 1] for tag in record.tags),
                record.mask or "",
                "" if record.crc32 is None else f"{record.crc32:08x}",
            )
            for record in records
        ),
    )


def kept_aside(records: Iterable[Record], classes: ClassList) -> Sequence[Record]:
    """The same records in a hundredth of the memory: in a file from which they are read when they are asked for."""
    with written_aside(table_of(records, classes)) as table:
        return parse_table(table, _indices(classes.names))


def _indices(names: Sequence[str]) -> dict[str, int]:
    return {name: 1 + position for position, name in enumerate(names)}


def read_dataset(folder: Path) -> Dataset:
    """The dataset that `write_dataset` wrote.

    Raises:
        WeakClipError: names the file that is missing or damaged.
    """
    for name in ("dataset.json", "images.csv"):
        if not (folder / name).is_file():
            raise WeakClipError(f"{folder / name} is missing", "`dvc repro prepare_dataset` writes it")
    try:
        document = read_document(folder / "dataset.json")
        if document.get("format", FORMAT) != FORMAT:
            raise ValueError(f"it has format {document['format']}, this version reads {FORMAT}")
        names = tuple(document["classes"])
        classes = ClassList(
            names=names,
            synonyms=tuple(tuple(document["synonyms"].get(name, ())) for name in names),
            background_words=tuple(document["background_words"]),
        )
        with (folder / "images.csv").open("rb") as table:
            records = parse_table(table, _indices(names))
            table.seek(0)
            if document["images"] != _digest(table):
                raise ValueError("images.csv: it does not match its checksum in dataset.json")
        return Dataset(name=document["name"], classes=classes, records=records)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        problem = f"{folder} does not hold a dataset index: {error}"
        raise WeakClipError(problem, "write it anew: `dvc repro --force prepare_dataset`") from error


def read_document(path: Path) -> dict[str, Any]:
    """The sealed JSON document of a file. Raises ValueError that names the file."""
    try:
        return unsealed(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path.name}: {error}") from error


def _digest(file: IO[bytes]) -> str:
    return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()  # type: ignore[arg-type]


def parse_table(table: IO[bytes], index: Mapping[str, int]) -> Sequence[Record]:
    """The records of ``images.csv``, parsed when they are asked for. Raises ValueError that names the line which is none."""
    try:
        return ParsedRows(table, COLUMNS, partial(parse_record, index=index))
    except ValueError as error:
        raise ValueError(f"images.csv, {error}") from error


def parse_record(cells: Sequence[str], index: Mapping[str, int]) -> Record:
    """The record of a row of ``images.csv``; ``index``: the number of each class. Raises ValueError or KeyError where it is
    none."""
    image_id, photo, height, width, split, tags, mask, crc32 = cells
    if split not in SPLITS:
        raise ValueError(f"{image_id} is in the unknown split {split!r}")
    return Record(
        image_id=image_id,
        photo=photo,
        height=int(height),
        width=int(width),
        split=split,
        tags=tuple(index[tag] for tag in tags.split(";")) if tags else (),
        mask=mask or None,
        crc32=int(crc32, 16) if crc32 else None,
    )
