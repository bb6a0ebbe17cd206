"""A folder of shards and the index that says which image's rows are in which of them."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from numpy.typing import NDArray

from weakclip.errors import WeakClipError
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
    part = folder / f"{INDEX}.part"
    with part.open("w", encoding="utf-8", newline="\n") as file:
        file.write(json.dumps(sealed(content), indent=2, allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
    part.replace(folder / INDEX)
    sync_folder(folder)


class ShardFolder:
    """Reads rows by their number in the folder, opening each shard when it is first asked for.

    remedy is what to do about a damaged or missing file, for the hint of the error.
    """

    def __init__(self, folder: Path, remedy: str) -> None:
        self.folder, self._remedy = folder, remedy
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
            raise WeakClipError(f"{path} is damaged: {error}", remedy) from error
        if made_as != FORMAT:
            raise WeakClipError(f"{path} has format {made_as}, this version reads {FORMAT}", remedy)
        self._places = [(number, row) for number, (_, rows, _) in enumerate(self._files) for row in range(rows)]
        self._readers: dict[int, ShardReader] = {}

    def __len__(self) -> int:
        return len(self._places)

    def first_row(self, image_id: str) -> int:
        """Return an image's first row. Raises WeakClipError if the folder does not hold the image."""
        if image_id not in self.images:
            raise WeakClipError(f"{self.folder} does not hold the image {image_id}", self._remedy)
        return self.images[image_id]

    def count(self, row: int) -> int:
        """Return the number of entries of a row."""
        number, place = self._places[row]
        return self._reader(number).layout.counts[place]

    def about(self, row: int) -> dict[str, Any]:
        """Return what a row is."""
        number, place = self._places[row]
        content: dict[str, Any] = json.loads(self._reader(number).layout.about[place])
        return content

    def read(self, row: int) -> dict[str, NDArray[Any]]:
        """Return a row's arrays by column, read-only windows on the file. Raises WeakClipError if the row is damaged."""
        number, place = self._places[row]
        return self._reader(number).read(place)

    def _reader(self, number: int) -> ShardReader:
        reader = self._readers.get(number)
        if reader is None:
            name, rows, proof = self._files[number]
            reader = ShardReader(self.folder / name, self._remedy)
            if len(reader.layout.counts) != rows or reader.layout.attributes != self.attributes or reader.proof != proof:
                raise WeakClipError(f"{reader.path} does not belong to {self.folder / INDEX}", self._remedy)
            self._readers[number] = reader
        return reader
