"""Decode every photo and mask once, in worker processes, so that no later stage meets one that it cannot use."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

import numpy as np

from weakclip.datasets.index import ClassList, Record, Skipped, kept_aside, table_lines
from weakclip.datasets.parsed_rows import ParsedRows
from weakclip.disk_space import written_aside
from weakclip.errors import WeakClipError
from weakclip.heap import give_back
from weakclip.images import file_crc32, read_photo
from weakclip.masks import IGNORE, read_mask
from weakclip.process_pool import in_processes, note
from weakclip.progress import track
from weakclip.workers import workers

CHUNK: Final = 32  # images a task; memory is that of one photo per process
SHOWN: Final = 5
NO_TAG: Final = "it has no tag; training needs at least one"
SKIP_HINT: Final = "mend or remove them, or leave them out: set dataset.on_error to skip"


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """An image that a dataset layout offers; ``photo``, ``mask``: paths. ``tags`` None: take them from the mask."""

    image_id: str
    photo: str
    split: str
    tags: tuple[int, ...] | None
    mask: str | None


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What a layout has: classes, images that are still to be checked, what is left out already, what to tell the user.

    It is what a function returns that looks names up, so that what it did this in is gone before photos are decoded.
    """

    classes: ClassList
    candidates: Sequence[Candidate]
    skipped: Sequence[Skipped]
    notes: tuple[str, ...]


COLUMNS: Final = ("image_id", "photo", "split", "tags", "mask")
FROM_MASK: Final = "from mask"


def ascending(candidates: Iterable[Candidate]) -> Sequence[Candidate]:
    """The candidates by image id, in a file from which one is read when it is asked for: they wait while photos are decoded."""

    def cells(candidate: Candidate) -> tuple[str, ...]:
        tags = FROM_MASK if candidate.tags is None else " ".join(map(str, candidate.tags))
        return (candidate.image_id, candidate.photo, candidate.split, tags, candidate.mask or "")

    ordered = sorted(candidates, key=lambda candidate: candidate.image_id)
    with written_aside(table_lines(COLUMNS, map(cells, ordered))) as table:
        return ParsedRows(table, COLUMNS, _candidate)


def _candidate(cells: Sequence[str]) -> Candidate:
    image_id, photo, split, tags, mask = cells
    found = None if tags == FROM_MASK else tuple(map(int, tags.split()))
    return Candidate(image_id=image_id, photo=photo, split=split, tags=found, mask=mask or None)


def verify(
    candidates: Sequence[Candidate], *, classes: ClassList, on_error: str, skipped: Sequence[Skipped] = ()
) -> tuple[Sequence[Record], tuple[Skipped, ...]]:
    """Records of the usable candidates, and all that was left out: ``skipped`` and the unusable ones.

    ``candidates``: `ascending` by image id, as the records are. ``on_error``: ``stop`` refuses the dataset if anything is
    unusable, ``skip`` leaves it out.

    Raises:
        WeakClipError: names unusable files (``stop``), or says that no image is left to train on.
    """
    # What candidates were looked up in goes before processes for their photos take theirs; what the interpreter keeps of freed
    # objects for its next ones goes first, for a few of them hold much memory that lies around.
    gc.collect()
    give_back()
    starts = range(0, len(candidates), CHUNK)
    tasks = ((candidates[start : start + CHUNK], classes.num_classes) for start in starts)
    results = chain.from_iterable(in_processes(verify_chunk, tasks, max(1, min(workers(), len(starts)))))
    left_out = list(skipped)

    def usable() -> Iterator[Record]:
        for result in track(results, total=len(candidates), title="checking photos"):
            if isinstance(result, Record):
                yield result
            else:
                left_out.append(result)

    records = kept_aside(usable(), classes)
    if left_out and on_error == "stop":
        raise WeakClipError(summary(left_out), SKIP_HINT)
    if not any(record.split != "val" for record in records):
        reason = f": {summary(left_out)}" if left_out else ""
        raise WeakClipError(f"no image with tags is left to train on{reason}", "add photos with tags to the training split")
    return records, tuple(left_out)


def verify_chunk(candidates: Sequence[Candidate], num_classes: int) -> list[Record | Skipped]:
    """`verify_one` of each, in a worker process."""
    return [verify_one(candidate, num_classes) for candidate in candidates]


def verify_one(candidate: Candidate, num_classes: int) -> Record | Skipped:
    """The record of a candidate, or why there is none."""
    note(candidate.photo)
    photo, mask = candidate.photo, candidate.mask
    try:
        height, width, _ = read_photo(photo).shape
        crc32 = file_crc32(photo)
        tags = candidate.tags or ()
        if mask is not None:
            present = verify_mask(mask, height, width, num_classes)
            tags = present if candidate.tags is None else tags
    except WeakClipError as error:
        return Skipped(file=candidate.photo, reason=error.problem)
    if candidate.split != "val" and not tags:
        return Skipped(file=candidate.photo, reason=f"{candidate.photo}: {NO_TAG}")
    return Record(
        image_id=candidate.image_id,
        photo=photo,
        height=height,
        width=width,
        split=candidate.split,
        tags=tags,
        mask=mask,
        crc32=crc32,
    )


def verify_mask(path: str, height: int, width: int, num_classes: int) -> tuple[int, ...]:
    """The foreground classes of a mask that fits its photo."""
    mask = read_mask(path)
    if mask.shape != (height, width):
        found = f"{mask.shape[1]} x {mask.shape[0]}"
        raise WeakClipError(f"{path} is {found} pixels, its photo {width} x {height}", "save the mask at the photo's size")
    counts = np.bincount(mask.ravel(), minlength=256)
    unknown = [int(index) for index in np.flatnonzero(counts[num_classes:IGNORE]) + num_classes]
    if unknown:
        problem = f"{path} holds the index {unknown[0]}; there are {num_classes} classes, 0 to {num_classes - 1}, and {IGNORE}"
        raise WeakClipError(problem, "mend the mask or the class list")
    return tuple(int(index) for index in np.flatnonzero(counts[1:num_classes]) + 1)


def summary(left_out: Sequence[Skipped]) -> str:
    """The first reasons and how many there are."""
    reasons = "; ".join(item.reason for item in left_out[:SHOWN])
    rest = f"; and {len(left_out) - SHOWN:,} more" if len(left_out) > SHOWN else ""
    return reasons if len(left_out) == 1 else f"{len(left_out):,} images cannot be used: {reasons}{rest}"
