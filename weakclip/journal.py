"""A file that remembers, image by image, what an interrupted stage had finished."""

import json
from collections.abc import Mapping
from pathlib import Path


class Journal:
    """Rows by image id, one JSON line each, appended as images are finished; ``rows`` holds those of earlier runs too.

    A line that a killed run left unfinished is dropped.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        whole, _, torn = path.read_bytes().rpartition(b"\n") if path.exists() else (b"", b"", b"")
        if torn:
            with path.open("rb+") as file:
                file.truncate(len(whole) + 1 if whole else 0)
        self.rows: dict[str, dict[str, float]] = dict(json.loads(line) for line in whole.splitlines())

    def append(self, image_id: str, row: Mapping[str, float]) -> None:
        """Record that an image is finished; figures come back from the file exactly as they were given."""
        self.rows[image_id] = dict(row)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps([image_id, dict(row)]) + "\n")
