"""What images are called after: their files, and as many folders as it takes to tell them apart.

Paths are texts here (see `weakclip.file_names`), their parts parted by ``/``.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable


def composed(text: str) -> str:
    """The text in Unicode's composed form: macOS writes file names decomposed."""
    return unicodedata.normalize("NFC", text)


def ending(path: str) -> str:
    """The ending of a file's name with its dot, empty where it has none; as `PurePath.suffix`."""
    name = path[path.rfind("/") + 1 :]
    place = name.rfind(".")
    return name[place:] if 0 < place < len(name) - 1 else ""


def stem(path: str) -> str:
    """The name of a file without its ending; as `PurePath.stem`."""
    return path[path.rfind("/") + 1 :].removesuffix(ending(path))


def repeated(names: Iterable[str]) -> set[str]:
    """The names that are there more than once."""
    seen: set[str] = set()
    again: set[str] = set()
    for name in names:
        (again if name in seen else seen).add(name)
    return again


def image_ids(photos: Iterable[str]) -> list[str]:
    """The file name of each photo without its ending; where several share it, with folders before it, joined by ``_``.

    ``cat/1.jpg`` and ``dog/1.jpg`` become ``cat_1`` and ``dog_1``. Two files of one folder that differ by their ending only
    share an id.
    """
    paths = list(photos)
    ids = [composed(stem(path)) for path in paths]
    used: dict[int, int] = {}  # parts of a path, where it is more than one
    while True:
        shared = repeated(ids)
        longer = [
            number for number, path in enumerate(paths) if ids[number] in shared and used.get(number, 1) <= path.count("/")
        ]
        if not longer:
            return ids
        for number in longer:
            used[number] = used.get(number, 1) + 1
            folders = paths[number].split("/")[:-1]
            ids[number] = composed("_".join([*folders[1 - used[number] :], stem(paths[number])]))
