"""Sealed JSON documents some values of which are long, such as a number for each of many images: written and read in parts.

They are the documents of `weakclip.sealed`, and may be read as those are, but in memory there are never more than a few
thousand of the lines at a time, and what a long value is kept as: `ImageFigures` for an object, a `Table` for a list.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import IO, Any, Final, TypeVar

import numpy as np

from weakclip.image_figures import ImageFigures, ImageIds
from weakclip.sealed import SEAL, canonical, compare, digest, parsed
from weakclip.table import Row, Table

TOGETHER: Final = 4096  # lines, or bits of text
T = TypeVar("T")
Long = ImageFigures[int] | Table
Read = Callable[[Iterable[Any]], Long]
"""Makes a long value of the parts in which it is read, each of them a JSON object or list."""


def sealed_lines(content: Mapping[str, object]) -> Iterator[bytes]:
    """The document of the content, in parts."""
    seal = digest(_canonical(content))
    document = {name: _members(value) if isinstance(value, ImageFigures | Table) else value for name, value in content.items()}
    texts = json.JSONEncoder(indent=2, allow_nan=False).iterencode({**document, SEAL: [seal]})
    return (text.encode() for text in _joined(chain(texts, ["\n"])))


def unsealed_lines(file: IO[bytes], long: Mapping[str, Read]) -> dict[str, Any]:
    """The content of such a document; ``long``: how its long values are read, by name.

    Raises:
        ValueError: it is no such document, or is damaged.
    """
    try:
        return _unsealed_lines(file, long)
    except (OverflowError, RecursionError, TypeError, AttributeError, KeyError) as error:
        raise ValueError(f"it is not laid out as an index: {type(error).__name__}: {error}") from error


def read_figures(parts: Iterable[Mapping[str, int]]) -> ImageFigures[int]:
    """The figures of an object of a number for each image."""
    numbers = array("q")

    def image_ids() -> Iterator[str]:
        for some in parts:
            numbers.extend(some.values())
            yield from some

    return ImageFigures(ImageIds(image_ids()), np.frombuffer(numbers, np.int64))


def _unsealed_lines(file: IO[bytes], long: Mapping[str, Read]) -> dict[str, Any]:
    openings = {f'  "{name}": {bracket}\n'.encode(): (name, bracket) for name in long for bracket in "{["}
    rest, found = bytearray(), {}
    for line in file:
        rest += line
        if line in openings:
            name, bracket = openings[line]
            found[name] = long[name](_parts(file, rest, bracket))
    content, seal = parsed(bytes(rest))
    for name, read in long.items():
        others = content[name]
        content[name] = found[name] if name in found else read([others])  # it is laid out in another way
    compare(seal, _canonical(content))
    return content


def _parts(file: IO[bytes], rest: bytearray, bracket: str) -> Iterator[Any]:
    """The members of an object or a list, some together, from the lines up to its end, which goes to the rest."""
    closing = {"{": b"}", "[": b"]"}[bracket]
    some: list[bytes] = []
    for line in chain(file, [b""]):
        ended = line.startswith(b"  " + closing) or not line
        whole = not line.startswith((b"    {", b"      "))  # a member does not go on in the next line
        if ended:
            rest += line
        else:
            some.append(line)
        if some and (ended or (whole and len(some) >= TOGETHER)):
            yield json.loads(bracket.encode() + b"".join(some).rstrip().removesuffix(b",") + closing)
            some = []
        if ended:
            return


def _canonical(content: Mapping[str, object]) -> Iterator[str]:
    """What `canonical` says of the content."""
    gap = "{"
    for name, value in sorted(content.items(), key=lambda item: item[0]):
        yield f"{gap}{json.dumps(name)}: "
        gap = ", "
        if isinstance(value, ImageFigures | Table):
            yield from _joined(json.JSONEncoder(allow_nan=False).iterencode(_members(value, ascending=True)))
        else:
            yield from canonical(value)
    yield "}"


class _Object(dict[str, Any]):
    """Members that are made while they are written; JSON's encoder asks for nothing else of an object."""

    def __init__(self, count: int, members: Iterable[tuple[str, Any]]) -> None:
        self._count, self._members = count, members

    def __len__(self) -> int:
        return self._count

    def items(self) -> Any:
        return self._members


class _List(list[Row]):
    """The same of a list."""

    def __init__(self, count: int, members: Iterable[Row]) -> None:
        self._count, self._members = count, members

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Row]:
        return iter(self._members)


def _members(value: Long, *, ascending: bool = False) -> _Object | _List:
    """A long value for the encoder; ``ascending``: names of members, and of cells of a row, in their alphabetical order."""
    if isinstance(value, Table):
        return _List(len(value), (dict(sorted(row.items())) for row in value) if ascending else value)
    places = value.image_ids.ascending if ascending else range(len(value))
    return _Object(len(value), ((value.image_ids[place], value.numbers[place].item()) for place in places))


def _joined(texts: Iterable[str]) -> Iterator[str]:
    return ("".join(some) for some in _together(texts))


def _together(items: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(items)
    return iter(lambda: list(islice(rest, TOGETHER)), [])
