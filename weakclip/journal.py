"""A file that remembers, image by image, what an interrupted stage had finished."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from weakclip.disk_space import full_disk_told
from weakclip.image_figures import ImageIds
from weakclip.ranks import world

Row = dict[str, float]


class Journal:
    """Rows by image id, one JSON line each, appended as images are finished and read with `journalled`.

    ``finished``: the images that earlier runs have finished. A line that a killed run left unfinished does not count, nor one
    that does not match its checksum: its image is simply done again. Each rank writes a file of its own beside ``path``, and
    reads them all.
    """

    def __init__(self, path: Path) -> None:
        self._path = path if world().main else path.with_stem(f"{path.stem}-rank{world().rank}")
        if self._path.exists():
            _drop_torn_line(self._path)
        self.finished = {image_id for image_id, _ in journalled(path)}

    def append(self, image_id: str, row: Mapping[str, float]) -> None:
        """Record that an image is finished; figures come back from the file exactly as they were given."""
        line = f"{_line([image_id, dict(row)])}\n"
        with full_disk_told(self._path, len(line)), self._path.open("a", encoding="utf-8") as file:
            file.write(line)


def journalled(path: Path) -> Iterator[tuple[str, Row]]:
    """The rows of all ranks, one after the other; of an image that was done again, the last one counts."""
    for file in sorted({path, *path.parent.glob(f"{path.stem}-rank*{path.suffix}")}):
        if file.exists():
            with file.open("rb") as lines:
                yield from (_entry(line) for line in lines if _is_sound(line))


def journalled_figures(path: Path, image_ids: ImageIds, names: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Of the rows of these images: for each name its figures (n,) in the order of the ids, NaN where there is no row.

    It takes eight bytes for each of them, where rows would take hundreds.
    """
    figures = {name: np.full(len(image_ids), np.nan) for name in names}
    for image_id, row in journalled(path):
        if (place := image_ids.place(image_id)) is not None:
            for name in names:
                figures[name][place] = row[name]
    return figures


def _line(entry: list[object]) -> str:
    text = json.dumps(entry)
    return f"{text} {zlib.crc32(text.encode()):08x}"


def _is_sound(line: bytes) -> bool:
    text, _, proof = line.rpartition(b" ")
    return proof == b"%08x\n" % zlib.crc32(text)


def _entry(line: bytes) -> tuple[str, Row]:
    image_id, row = json.loads(line.rpartition(b" ")[0])
    return image_id, row


def _drop_torn_line(path: Path) -> None:
    with path.open("rb+") as file:
        length = 0
        for line in file:
            length += len(line) if line.endswith(b"\n") else 0
        file.truncate(length)
