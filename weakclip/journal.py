"""A file that remembers, image by image, what an interrupted stage had finished."""

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from weakclip.disk_space import full_disk_told
from weakclip.ranks import world

Row = dict[str, float]


class Journal:
    """Rows by image id, one JSON line each, appended as images are finished; ``rows`` holds those of earlier runs too.

    A line that a killed run left unfinished does not count, nor one that does not match its checksum: its image is simply done
    again. Each rank writes a file of its own beside ``path``, and reads them all.
    """

    def __init__(self, path: Path) -> None:
        self._path = path if world().main else path.with_stem(f"{path.stem}-rank{world().rank}")
        self.rows: dict[str, Row] = {}
        for file in sorted({path, self._path, *path.parent.glob(f"{path.stem}-rank*{path.suffix}")}):
            whole, _, torn = file.read_bytes().rpartition(b"\n") if file.exists() else (b"", b"", b"")
            if torn and file == self._path:
                with file.open("rb+") as own:
                    own.truncate(len(whole) + 1 if whole else 0)
            self.rows |= dict(_sound(whole.split(b"\n")))

    def append(self, image_id: str, row: Mapping[str, float]) -> None:
        """Record that an image is finished; figures come back from the file exactly as they were given."""
        self.rows[image_id] = dict(row)
        line = f"{_line([image_id, dict(row)])}\n"
        with full_disk_told(self._path, len(line)), self._path.open("a", encoding="utf-8") as file:
            file.write(line)


def _line(entry: list[object]) -> str:
    text = json.dumps(entry)
    return f"{text} {zlib.crc32(text.encode()):08x}"


def _sound(lines: Iterable[bytes]) -> Iterator[tuple[str, Row]]:
    for line in lines:
        text, _, proof = line.rpartition(b" ")
        if proof == b"%08x" % zlib.crc32(text):
            image_id, row = json.loads(text)
            yield image_id, row
