"""Lists of images as the field's code exchanges them: ``train.txt``, ``trainaug.txt``, ``val_5000.txt``, an image a line.

A line begins with an id, or with the path of the photo; the path of the mask may follow (VOC with SBD), or the numbers of the
image's classes, counted from 0 without background (CLIP-ES on COCO).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from weakclip.datasets.labels import read_text, refuse, without_ending


def read_ids(path: Path) -> list[str]:
    """The image ids of a list in its order, each once.

    Raises:
        WeakClipError: the file is missing or not UTF-8 text.
    """
    return list(dict.fromkeys(image_id for _, image_id, _ in entries(path)))


def read_tagged_ids(path: Path, num_classes: int) -> dict[str, tuple[int, ...]]:
    """The classes, from 1 and ascending, of each image of a list whose lines are ``id number number ...`` with numbers from 0.

    ``num_classes``: background included. An id alone has no class.

    Raises:
        WeakClipError: names the file and the lines whose numbers are none, or beyond the classes.
    """
    tags: dict[str, tuple[int, ...]] = {}
    problems: list[str] = []
    for number, image_id, words in entries(path):
        wrong = [word for word in words if not (word.isascii() and word.isdecimal() and int(word) < num_classes - 1)]
        if wrong:
            problems.append(f"line {number}: {wrong[0]!r} is no class number; they go from 0 to {num_classes - 2}")
        else:
            tags[image_id] = tuple(sorted({1 + int(word) for word in words}))
    refuse(path, problems, "a line is an image and the numbers of its classes: `COCO_train2014_000000000009 45 49 50`")
    return tags


def write_ids(path: Path, image_ids: Iterable[str]) -> None:
    """Write a list, an id a line."""
    path.write_text("".join(f"{image_id}\n" for image_id in image_ids), encoding="utf-8", newline="\n")


def write_tagged_ids(path: Path, tags: Mapping[str, Sequence[int]]) -> None:
    """Write a list that `read_tagged_ids` reads: each image and its classes, which are given from 1, counted from 0."""
    write_ids(path, (" ".join([image_id, *(str(tag - 1) for tag in found)]) for image_id, found in tags.items()))


def entries(path: Path) -> Iterator[tuple[int, str, list[str]]]:
    """Line number, image id and the words after it of every line that is not blank."""
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        words = line.split()
        if words:
            yield number, without_ending(PurePosixPath(words[0]).name), words[1:]
