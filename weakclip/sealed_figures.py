"""Sealed JSON documents one value of which is long, a number for each of many images: it is written and read line by line.

They are the documents of `weakclip.sealed`, and may be read as those are, but in memory there are never more than a few
thousand of the lines at a time.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import IO, Any, Final, TypeVar

import numpy as np

from weakclip.image_figures import ImageFigures, ImageIds
from weakclip.sealed import SEAL, canonical, compare, digest, parsed

TOGETHER: Final = 4096  # lines
T = TypeVar("T")


def sealed_lines(content: Mapping[str, object], name: str, figures: ImageFigures[int]) -> Iterator[bytes]:
    """The document of the content and, as its last value but the checksum, the figures by that name; in parts."""
    seal = digest(_canonical(content, name, figures))
    document = json.dumps({**content, name: {}, SEAL: [seal]}, indent=2, allow_nan=False)
    before, opening, after = document.rpartition(f'"{name}": {{')
    yield f"{before}{opening}".encode()
    gap = "\n"
    for members in _together(_members(figures, range(len(figures)))):
        yield (gap + ",\n".join(f"    {member}" for member in members)).encode()
        gap = ",\n"
    end = "\n  " if len(figures) else ""
    yield f"{end}{after}\n".encode()


def unsealed_lines(file: IO[bytes], name: str) -> tuple[dict[str, Any], ImageFigures[int]]:
    """The content of such a document without the figures by that name, and these.

    Raises:
        ValueError: it is no such document, or is damaged.
    """
    try:
        return _unsealed_lines(file, name)
    except (OverflowError, RecursionError, TypeError, AttributeError, KeyError) as error:
        raise ValueError(f"it is not laid out as an index: {type(error).__name__}: {error}") from error


def _unsealed_lines(file: IO[bytes], name: str) -> tuple[dict[str, Any], ImageFigures[int]]:
    opening = f'  "{name}": {{\n'.encode()
    rest, numbers, image_ids = bytearray(), array("q"), None

    def read_ids(members: Iterable[Mapping[str, int]]) -> Iterator[str]:
        for some in members:
            numbers.extend(some.values())
            yield from some

    for line in file:
        rest += line
        if line == opening:
            image_ids = ImageIds(read_ids(_blocks(file, rest)))
    content, seal = parsed(bytes(rest))
    others = content.pop(name)
    if image_ids is None:  # it is laid out in another way
        image_ids = ImageIds(read_ids([others]))
    figures = ImageFigures[int](image_ids, np.array(numbers, np.int64))
    compare(seal, _canonical(content, name, figures))
    return content, figures


def _blocks(file: IO[bytes], rest: bytearray) -> Iterator[dict[str, int]]:
    """The members of an object, some together, from the lines up to its end, which goes to the rest."""

    def lines() -> Iterator[bytes]:
        for line in file:
            if line.lstrip().startswith(b"}"):
                rest.extend(line)
                return
            yield line

    for block in _together(lines()):
        yield json.loads(b"{" + b"".join(block).rstrip().removesuffix(b",") + b"}")


def _canonical(content: Mapping[str, object], name: str, figures: ImageFigures[int]) -> Iterator[str]:
    """What `canonical` says of a content that has the figures, too."""
    gap = "{"
    for key in sorted([*content, name]):
        yield f"{gap}{json.dumps(key)}: "
        gap = ", "
        if key == name:
            yield "{"
            inner = ""
            for members in _together(_members(figures, figures.image_ids.ascending)):
                yield inner + ", ".join(members)
                inner = ", "
            yield "}"
        else:
            yield from canonical(content[key])
    yield "}"


def _members(figures: ImageFigures[int], places: Iterable[int]) -> Iterator[str]:
    return (f"{json.dumps(figures.image_ids[place])}: {figures.numbers[place]}" for place in places)


def _together(items: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(items)
    return iter(lambda: list(islice(rest, TOGETHER)), [])
