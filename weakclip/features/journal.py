"""An append-only list of what is safely on the disk, readable after any interruption."""

import os
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

from weakclip.disk_space import full_disk_told
from weakclip.file_names import read_bytes

ENTRY = struct.Struct("<II")  # row, checksum of its bytes
RECORD = struct.Struct("<III")  # the same and the checksum of the entry itself


class Journal:
    """Rows of a file that are complete, each with the CRC-32 of its bytes.

    Records have a fixed size. One that is torn or damaged does not count, so its row is simply made again.
    """

    def __init__(self, path: Path | str) -> None:
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self.rows = journalled(path)
        """The checksum of each row that the journal held when it was opened."""
        whole = os.fstat(self._file).st_size // RECORD.size * RECORD.size
        os.ftruncate(self._file, whole)  # later records must start where a record can start
        os.lseek(self._file, 0, os.SEEK_END)

    def append(self, rows: Iterable[tuple[int, int]]) -> None:
        """Add rows and their checksums; they are on the disk on return. The rows' bytes must be there before."""
        entries = [ENTRY.pack(row, checksum) for row, checksum in rows]
        with full_disk_told(self._path, RECORD.size * len(entries)):
            write_all(self._file, b"".join(entry + struct.pack("<I", zlib.crc32(entry)) for entry in entries))
            os.fsync(self._file)

    def close(self) -> None:
        """Close the file; the journal cannot be added to after it."""
        os.close(self._file)


def journalled(path: Path | str) -> dict[int, int]:
    """Return the rows that a journal holds, each with its checksum."""
    stored = read_bytes(path)
    whole = len(stored) // RECORD.size * RECORD.size
    records = RECORD.iter_unpack(stored[:whole])
    return {row: checksum for row, checksum, proof in records if proof == zlib.crc32(ENTRY.pack(row, checksum))}


def write_all(file: int, content: bytes | memoryview, offset: int | None = None) -> None:
    """Write all bytes to a file descriptor, at an offset or else at its position; one system call may write less."""
    rest = memoryview(content).cast("B")
    while rest:
        count = os.write(file, rest) if offset is None else os.pwrite(file, rest, offset)
        rest = rest[count:]
        offset = None if offset is None else offset + count
