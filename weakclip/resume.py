"""Scratch slots in which a stage builds its artefacts, so that a killed run loses little and leaves nothing half-written.

DVC removes a stage's outputs before it runs the stage, so what a run needs to go on from lies beside them, under `.resume/`.
A slot is named by a fingerprint of all that its contents follow from: a run with other parameters never finds it.
"""

import ast
import errno
import fcntl
import hashlib
import importlib.metadata
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Self

from weakclip.disk_space import room_for
from weakclip.errors import WeakClipError
from weakclip.file_names import file_size, is_folder, opened_to_read, remove
from weakclip.ranks import world

LARGE = 256 * 1024 * 1024  # bytes; a larger input is known by its size and its two ends
END = 4 * 1024 * 1024
AT_A_TIME = 1000  # names of a folder
KEPT_SLOTS = 4  # of a stage, newest first
KEPT = ".kept"
NO_LINKS = (errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS)

_locked: dict[Path, int] = {}
"""The stages' folders that this process holds, each with its open file."""


def fingerprint(*, stage: str, params: Mapping[str, object], inputs: Sequence[Path], code: Sequence[Path]) -> str:
    """Return 32 hex digits that change with the stage's parameters, inputs, code or torch version, and with nothing else.

    params are values that JSON can hold. An input is a file or a folder, known by its path and its contents, not by its
    times. Of code files only the contents and the last two parts of the path count, so a copy of the project agrees.
    """
    digest = hashlib.blake2b(digest_size=16)
    for text in (stage, json.dumps(params, sort_keys=True, allow_nan=False), _torch_version()):
        digest.update(f"{text}\0".encode())
    for path in inputs:
        _add(digest, path.as_posix(), path)
    for path in sorted(code):
        _add(digest, "/".join(path.parts[-2:]), path)
    return digest.hexdigest()


def import_closure(entry: Path, root: Path) -> tuple[Path, ...]:
    """Return the Python file entry and all files under root that it imports, directly or not, sorted.

    Read from the source, so only absolute imports of the packages `stages` and `weakclip` are seen. An import of
    `weakclip.a.b` counts `weakclip/__init__.py` and `weakclip/a/__init__.py` too: Python runs them.
    """
    found: set[Path] = set()
    waiting = [entry]
    while waiting:
        file = waiting.pop()
        if file in found:
            continue
        found.add(file)
        for name in _imported_names(file):
            parts = name.split(".")
            for length in range(1, len(parts) + 1):
                module = root.joinpath(*parts[:length])
                waiting += [path for path in (module / "__init__.py", module.with_suffix(".py")) if path.is_file()]
    return tuple(sorted(found))


@dataclass(frozen=True)
class ResumeSlot:
    """The folder `.resume/<stage>/<fingerprint>/` of one run and of those that go on with it."""

    folder: Path

    @classmethod
    def open(cls, stage: str, fingerprint: str, root: Path = Path(".resume")) -> Self:
        """Make the slot or find it again, and remove the stage's other slots, except the newest that were closed with keep.

        Ranks open it together. Raises WeakClipError if their fingerprints differ, or if the stage is running already: two
        writers of one slot would spoil each other's work.
        """
        if len({*world().gathered(fingerprint)}) > 1:
            problem = f"the processes of {stage} see different inputs, code or parameters"
            raise WeakClipError(problem, "start all of them in one folder, on a file system that their machines share")
        with world().main_first():
            return cls._open(root / stage, fingerprint)

    @classmethod
    def _open(cls, home: Path, fingerprint: str) -> Self:
        folder = home / fingerprint
        home.mkdir(parents=True, exist_ok=True)
        if world().main:
            _lock(home)
        folder.mkdir(exist_ok=True)
        others = [path for path in home.iterdir() if path != folder]
        kept = sorted((path for path in others if (path / KEPT).exists()), key=lambda path: (path / KEPT).stat().st_mtime_ns)
        for path in set(others) - set(kept[-KEPT_SLOTS:]):
            _remove(path)
        return cls(folder)

    def publish(self, name: str, final: Path) -> None:
        """Let the file or folder `name` of the slot stand at its final path, too.

        What stood at the final path is replaced, parents are made. At no moment is there half of it at the final path.
        The slot keeps it until `close`: DVC removes the artefacts of a run that is killed between two of them, and the next
        run must find here what it goes on from. Both are links to the same bytes where the file system has links, which takes
        no room, and copies elsewhere. So what is published must not be written to in place, only replaced.
        Nothing is forced to the disk here: a killed process loses none of what it has written, and files that must outlive a
        power cut (shards, weights, checkpoints) are flushed by those who write them.
        """
        source = self.folder / name
        if not source.exists():
            raise ValueError(f"expected {name} in the slot {self.folder}, got {sorted(p.name for p in self.folder.iterdir())}")
        final.parent.mkdir(parents=True, exist_ok=True)
        part, old = final.with_name(f".{final.name}.part"), final.with_name(f".{final.name}.old")
        _remove(part)
        _remove(old)
        try:
            _link_all(source, part)
        except OSError:
            with suppress(OSError):  # the next run removes it, too
                _remove(part)
            raise
        if os.path.lexists(final) and (part.is_dir() or (final.is_dir() and not final.is_symlink())):
            final.rename(old)  # a folder cannot be renamed onto another one that is not empty
        part.replace(final)
        _remove(old)

    def close(self, keep: Sequence[str] = ()) -> None:
        """Delete the slot after success, but for the names in keep, which the next run with this fingerprint finds.

        What is deleted is moved away whole before: half a slot would be worse than none for a run that finds it.
        """
        closed = self.folder.with_name(f"{self.folder.name}.closed")
        _remove(closed)
        if keep:
            closed.mkdir()
            for path in sorted(self.folder.iterdir()):
                if path.name not in keep:
                    path.rename(closed / path.name)
            (self.folder / KEPT).touch()
        else:
            self.folder.rename(closed)
        _remove(closed)
        _unlock(self.folder.parent)


def _torch_version() -> str:
    try:
        return importlib.metadata.version("torch")  # without importing it: some stages need no torch
    except importlib.metadata.PackageNotFoundError:
        return ""


def _imported_names(file: Path) -> list[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"), filename=str(file))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return [name for name in names if name.split(".")[0] in ("stages", "weakclip")]


def _add(digest: hashlib.blake2b, name: str, path: Path | str) -> None:
    if is_folder(path):
        digest.update(f"folder {name}\0".encode())
        with os.scandir(path) as entries:
            names = sorted(entry.name for entry in entries)  # not paths, which take six times the memory
        for child in names:
            _add(digest, child, f"{path}/{child}")
        digest.update(b"end\0")
        return
    try:
        length = file_size(path)
        digest.update(f"file {name}\0{length}\0".encode(errors="surrogateescape"))
        with opened_to_read(path) as file:
            if length <= LARGE:
                digest.update(hashlib.file_digest(file, "blake2b").digest())
            else:
                digest.update(file.read(END))
                file.seek(-END, os.SEEK_END)
                digest.update(file.read(END))
    except FileNotFoundError as error:
        raise WeakClipError(f"{path} is missing", "`dvc repro` makes what the stage needs, in order") from error


def _link_all(source: Path, target: Path) -> None:
    # Not shutil's copytree: it goes on after an error, and then raises one that does not say that the disk is full.
    if not source.is_dir():
        _link(source, target)
        return
    target.mkdir()
    with os.scandir(source) as entries:  # one by one: a folder may hold a file for each image
        for entry in entries:
            if entry.is_dir():
                _link_all(Path(entry.path), target / entry.name)
            else:
                _link(entry.path, f"{target}/{entry.name}")


def _link(source: Path | str, target: Path | str) -> None:
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        with room_for(target, file_size(source)):
            shutil.copyfile(source, target)  # on another disk, such as a linked data folder, or on one without links


def _lock(home: Path) -> None:
    """Hold a stage's folder until `_unlock`, or until this process ends, however it does."""
    home = home.resolve()
    if home in _locked:
        return
    file = os.open(home, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(file)
        raise WeakClipError(
            f"another process is running {home.name} in this folder",
            "wait for it or end it; it may be left over from a `dvc repro` that was killed",
        ) from error
    except OSError:  # a file system that locks no folders
        os.close(file)
        return
    _locked[home] = file


def _unlock(home: Path) -> None:
    file = _locked.pop(home.resolve(), None)
    if file is not None:
        os.close(file)


def _remove(path: Path) -> None:
    # Not shutil's rmtree: it lists a folder whole, and one may hold a file for each image.
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    more = True
    while more:
        some = _some_entries(path)
        for entry in some:
            if entry.is_dir(follow_symlinks=False):
                _remove(Path(entry.path))
            else:
                remove(entry.path)
        more = len(some) == AT_A_TIME  # where names come back, as some network file systems let them, `rmdir` says so
    path.rmdir()


def _some_entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return list(islice(entries, AT_A_TIME))
