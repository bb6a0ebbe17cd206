"""A folder of shards and the index that says which image's rows are in which of them."""

import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

from numpy.typing import NDArray

from weakclip.disk_space import write_whole
from weakclip.errors import WeakClipError, of_the_machine
from weakclip.features.shards import ShardReader, checksum, open_shard, sync_folder
from weakclip.sealed import sealed, unsealed

INDEX: Final = "index.json"
FORMAT: Final = 2


def shard_name(number: int) -> str:
    """Return the file name of a folder's shard, counted from 0."""
    return f"shard-{number:05d}.h5"


def write_index(folder: Path, attributes: Mapping[str, object], shards: Sequence[int], images: Mapping[str, int]) -> None:
    """Write `index.json`: the attributes that all shards carry, the number of rows of each shard, each image's first row.

    Rows are counted over all shards, which are there, named by `shard_name`. Of each the checksum of its rows' checksums is
    kept: it says which shard belongs here, and lets the index stand for all that is in the folder.
    """
    named = [(shard_name(number), rows) for number, rows in enumerate(shards)]
    content = {
        "format": FORMAT,
        "attributes": attributes,
        "shards": [
            {"file": name, "rows": rows, "crc32": checksum([open_shard(folder / name, "").checksums])} for name, rows in named
        ],
        "images": images,
    }
    document = json.dumps(sealed(content), indent=2, allow_nan=False) + "\n"
    write_whole(folder / INDEX, document.encode(), sync=True)
    sync_folder(folder)


class ShardFolder:
    """Reads rows by their number in the folder, opening each shard when it is first asked for.

    remedy is what to do about a damaged or missing file, for the hint of the error. open_at_most: how many shards are kept
    open, those that were opened last; one that is opened again is checked again.
    """

    def __init__(self, folder: Path, remedy: str, open_at_most: int | None = None) -> None:
        self.folder, self._remedy, self._open_at_most = folder, remedy, open_at_most
        path = folder / INDEX
        try:
            content = unsealed(path.read_bytes())
            self.attributes: dict[str, Any] = content["attributes"]
            self.images: dict[str, int] = content["images"]
            """The first row of each image."""
            self._files: list[tuple[str, int, int]] = [(s["file"], s["rows"], s["crc32"]) for s in content["shards"]]
            made_as = content["format"]
        except FileNotFoundError as error:
            raise WeakClipError(f"{path} is missing", remedy) from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            if of_the_machine(error):
                raise
            raise WeakClipError(f"{path} is damaged: {error}", remedy) from error
        if made_as != FORMAT:
            raise WeakClipError(f"{path} has format {made_as}, this version reads {FORMAT}", remedy)
        self._firsts = list(accumulate((rows for _, rows, _ in self._files), initial=0))
        self._readers: dict[int, ShardReader] = {}

    def __len__(self) -> int:
        return self._firsts[-1]

    def first_row(self, image_id: str) -> int:
        """Return an image's first row. Raises WeakClipError if the folder does not hold the image."""
        if image_id not in self.images:
            raise WeakClipError(f"{self.folder} does not hold the image {image_id}", self._remedy)
        return self.images[image_id]

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

    def _place(self, row: int) -> tuple[ShardReader, int]:
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        number = bisect_right(self._firsts, row) - 1
        return self._reader(number), row - self._firsts[number]

    def _reader(self, number: int) -> ShardReader:
        reader = self._readers.get(number)
        if reader is None:
            name, rows, proof = self._files[number]
            reader = ShardReader(self.folder / name, self._remedy)
            if len(reader.layout.counts) != rows or reader.layout.attributes != self.attributes or reader.proof != proof:
                raise WeakClipError(f"{reader.path} does not belong to {self.folder / INDEX}", self._remedy)
            self._readers[number] = reader
            if self._open_at_most is not None and len(self._readers) > self._open_at_most:
                self._readers.pop(next(iter(self._readers)), None)
        return reader
