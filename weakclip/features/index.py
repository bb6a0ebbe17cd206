"""A folder of shards and the index that says which image's rows are in which of them."""

from __future__ import annotations

import json
import re
from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from weakclip.disk_space import write_whole
from weakclip.errors import WeakClipError, of_the_machine
from weakclip.features.shards import ShardReader, checksum, open_shard, sync_folder
from weakclip.image_figures import ImageFigures
from weakclip.sealed_figures import read_figures, sealed_lines, unsealed_lines
from weakclip.table import Row, Table

INDEX: Final = "index.json"
FORMAT: Final = 2
COLUMNS: Final = {"file": str, "rows": int, "crc32": int}  # what is kept of each shard
HEAD: Final = 100  # bytes in which the format is
MAPPED: Final = 8  # shards: pages that were read stay mapped of so many, and count as memory of this process


def shard_name(number: int) -> str:
    """Return the file name of a folder's shard, counted from 0."""
    return f"shard-{number:05d}.h5"


def write_index(folder: Path, attributes: Mapping[str, object], shards: Sequence[int], images: ImageFigures[int]) -> None:
    """Write `index.json`: the attributes that all shards carry, the number of rows of each shard, each image's first row.

    Rows are counted over all shards, which are there, named by `shard_name`. Of each the checksum of its rows' checksums is
    kept: it says which shard belongs here, and lets the index stand for all that is in the folder.
    """
    proofs = (checksum([open_shard(f"{folder}/{shard_name(number)}", "").checksums]) for number in range(len(shards)))
    columns = {
        "file": np.array([shard_name(number).encode() for number in range(len(shards))], np.bytes_),
        "rows": np.array(shards, np.int64),
        "crc32": np.fromiter(proofs, np.int64),
    }
    content = {"format": FORMAT, "attributes": attributes, "shards": Table(columns), "images": images}
    write_whole(folder / INDEX, sealed_lines(content), sync=True)
    sync_folder(folder)


@dataclass(frozen=True, kw_only=True)
class Index:
    """What `index.json` says: the attributes of all shards; of each of them ``file``, ``rows``, which is their number, and
    ``crc32``; each image's first row."""

    attributes: dict[str, Any]
    shards: Sequence[Row]
    images: Mapping[str, int]

    @cached_property
    def firsts(self) -> Sequence[int]:
        """The first row of each shard, and the number of all rows."""
        return array("q", accumulate((shard["rows"] for shard in self.shards), initial=0))

    def shard_of(self, row: int) -> int:
        """The number of the shard that holds a row."""
        return bisect_right(self.firsts, row) - 1

    def part(self, image_ids: Iterable[str]) -> Index:
        """The index of those of the images that it has and of the shards that they are in: a task is sent what it needs of it,
        however large it is."""
        rows = {image_id: self.images[image_id] for image_id in image_ids if image_id in self.images}
        numbers = sorted({self.shard_of(row) for row in rows.values()})
        shards = tuple(self.shards[number] for number in numbers)
        left_out = {
            number: self.firsts[number] - before
            for number, before in zip(numbers, accumulate((shard["rows"] for shard in shards), initial=0), strict=False)
        }
        images = {image_id: row - left_out[self.shard_of(row)] for image_id, row in rows.items()}
        return Index(attributes=self.attributes, shards=shards, images=images)


def read_index(folder: Path | str, remedy: str) -> Index:
    """The index of a folder. Raises WeakClipError, with the remedy, if it is missing or damaged."""
    path = Path(folder, INDEX)
    try:
        with path.open("rb") as file:
            # Its first key. Other formats are sealed in other ways, or not at all, and would be taken for damaged ones.
            found = re.match(rb'\s*{\s*"format":\s*(\d+)', file.read(HEAD))
            if found is not None and int(found[1]) != FORMAT:
                raise WeakClipError(f"{path} has format {int(found[1])}, this version reads {FORMAT}", remedy)
            file.seek(0)
            content = unsealed_lines(file, {"shards": partial(Table.of, kinds=COLUMNS), "images": read_figures})
        index = Index(attributes=content["attributes"], shards=content["shards"], images=content["images"])
        if content["format"] != FORMAT:
            raise ValueError(f"it has format {content['format']}")
    except FileNotFoundError as error:
        raise WeakClipError(f"{path} is missing", remedy) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if of_the_machine(error):
            raise
        raise WeakClipError(f"{path} is damaged: {error}", remedy) from error
    return index


class ShardFolder:
    """Reads rows by their number in the folder, opening each shard when it is first asked for.

    remedy is what to do about a damaged or missing file, for the hint of the error. open_at_most: how many shards are kept
    open, those that were opened last; one that is opened again is checked again. index: a part of the folder's. Memory does not
    grow with the number of shards: pages of the files stay mapped of a few of them.
    """

    def __init__(self, folder: Path | str, remedy: str, open_at_most: int | None = None, index: Index | None = None) -> None:
        self.folder, self._remedy, self._open_at_most = folder, remedy, open_at_most
        self.index = read_index(folder, remedy) if index is None else index
        self._readers: dict[int, ShardReader] = {}
        self._mapped: deque[ShardReader] = deque()  # not a dictionary: several threads may read

    @property
    def attributes(self) -> dict[str, Any]:
        """What the rows are, as the index says."""
        return self.index.attributes

    def __len__(self) -> int:
        return self.index.firsts[-1]

    def first_row(self, image_id: str) -> int:
        """Return an image's first row. Raises WeakClipError if the folder does not hold the image."""
        try:
            return self.index.images[image_id]
        except KeyError:
            raise WeakClipError(f"{self.folder} does not hold the image {image_id}", self._remedy) from None

    def count(self, row: int) -> int:
        """Return the number of entries of a row."""
        reader, place = self._place(row)
        return reader.layout.counts[place]

    def about(self, row: int) -> dict[str, Any]:
        """Return what a row is."""
        reader, place = self._place(row)
        content: dict[str, Any] = json.loads(reader.layout.about[place])
        return content

    def read(self, row: int) -> dict[str, NDArray[Any]]:
        """Return a row's arrays by column, read-only windows on the file. Raises WeakClipError if the row is damaged."""
        reader, place = self._place(row)
        return reader.read(place)

    def let_row_go(self, row: int) -> None:
        """Give the memory back that a row's part of its file takes in this process; what is read again is mapped again."""
        reader, place = self._place(row)
        reader.let_row_go(place)

    def _place(self, row: int) -> tuple[ShardReader, int]:
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        number = self.index.shard_of(row)
        return self._reader(number), row - self.index.firsts[number]

    def _reader(self, number: int) -> ShardReader:
        reader = self._readers.get(number)
        if reader is None:
            shard = self.index.shards[number]
            reader = ShardReader(f"{self.folder}/{shard['file']}", self._remedy)
            found = {"file": shard["file"], "rows": len(reader.layout.counts), "crc32": reader.proof}
            if shard != found or reader.layout.attributes != self.attributes:
                raise WeakClipError(f"{reader.path} does not belong to {self.folder}/{INDEX}", self._remedy)
            self._readers[number] = reader
            if self._open_at_most is not None and len(self._readers) > self._open_at_most:
                self._readers.pop(next(iter(self._readers)), None)
        if reader not in self._mapped:
            self._mapped.append(reader)
            if len(self._mapped) > min(MAPPED, self._open_at_most or MAPPED):
                self._mapped.popleft().let_go()
        return reader
