"""Sealed documents with a number for each of many images, and rows of a table."""

from __future__ import annotations

import io
import json
import tracemalloc
from collections.abc import Sequence
from functools import partial

import numpy as np
import pytest

from weakclip.image_figures import ImageFigures, ImageIds
from weakclip.sealed import sealed
from weakclip.sealed_figures import TOGETHER, read_figures, sealed_lines, unsealed_lines
from weakclip.table import Table

CONTENT = {"format": 2, "attributes": {"z": (1, 2), "a": {"images": {}}}, "zoom": "ß"}
MANY = [f"photo {number:05d}" for number in range(2 * TOGETHER + 1)]


def figures(image_ids: Sequence[str]) -> ImageFigures[int]:
    return ImageFigures[int](ImageIds(image_ids), np.arange(len(image_ids)) * 7)


def shards(count: int) -> list[dict[str, object]]:
    return [{"file": f"shard ö{number}", "rows": number % 7, "crc32": 2**32 - 1 - number} for number in range(count)]


def document(image_ids: Sequence[str], rows: Sequence[dict[str, object]]) -> bytes:
    content = {**CONTENT, "shards": Table.of([rows], COLUMNS), "images": figures(image_ids)}
    return b"".join(sealed_lines(content))


COLUMNS = {"file": str, "rows": int, "crc32": int}
READ = {"shards": partial(Table.of, kinds=COLUMNS), "images": read_figures}


@pytest.mark.parametrize("image_ids", [[], ["a"], ["b", "a", "Käse", 'quoted "c"'], MANY, MANY[::-1]])
@pytest.mark.parametrize("count", [0, 1, TOGETHER // 2])
def test_the_document_is_that_of_sealed(image_ids: list[str], count: int) -> None:
    images, rows = {image_id: 7 * place for place, image_id in enumerate(image_ids)}, shards(count)
    whole = sealed({**CONTENT, "shards": rows, "images": images})
    assert document(image_ids, rows) == (json.dumps(whole, indent=2) + "\n").encode()
    for written in (document(image_ids, rows), json.dumps(whole).encode(), json.dumps(whole, indent=1).encode()):
        content = unsealed_lines(io.BytesIO(written), READ)
        assert content == {**json.loads(json.dumps(CONTENT)), "shards": rows, "images": images}
        assert list(content["images"]) == image_ids


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace(b'"b": 7', b'"b": 8'),
        lambda text: text.replace(b'"b": 7', b'"b": "7"'),
        lambda text: text.replace(b'"b": 7', b'"b": 7.0'),
        lambda text: text.replace(b'"b": 7', b'"b": 99999999999999999999'),
        lambda text: text.replace(b'"b": 7', b'"b": ' + 100_000 * b"["),
        lambda text: text.replace(b'"b"', b'"a"'),
        lambda text: text.replace(b'"rows": 1', b'"rows": 2'),
        lambda text: text.replace(b'"rows": 1', b'"rows": 1.0'),
        lambda text: text.replace(b'"rows": 1', b'"rows": true'),
        lambda text: text.replace(b'"rows": 1', b'"rows": 1, "more": 1'),
        lambda text: text.replace(b'"rows": 1', b'"file": "a"'),
        lambda text: text.replace(b'"file": "shard', b'"file": "shart'),
        lambda text: text.replace(b'  "shards": [\n', b'  "shards": {\n'),
        lambda text: text[: text.index(b'"rows": 1')],
        lambda text: text.replace(b"    },\n    {\n", b""),
        lambda text: text[: text.index(b'"b"') + 1],
        lambda text: text[: text.index(b'"checksum"')],
        lambda text: text.replace(b'  "images": {\n', b'  "images": {},\n  "images": {\n'),
        lambda text: text.replace(b'  "images": {\n', b'  "pictures": {\n'),
        lambda text: b"[]",
        lambda text: b"",
    ],
)
def test_damage_is_refused(damage: object) -> None:
    assert callable(damage)
    text = document(["a", "b", "c"], shards(3))
    damaged = damage(text)
    try:
        content = unsealed_lines(io.BytesIO(damaged), READ)
    except ValueError:
        return
    assert content["images"] == {"a": 0, "b": 7, "c": 14} and content["shards"] == shards(3), damaged


def test_memory_is_that_of_the_ids_and_numbers() -> None:
    """With a row for every sixteen images: that is how many the shards of scores have."""
    few, many = ([f"{number:07d}" for number in range(count)] for count in (20_000, 80_000))

    def peak(image_ids: list[str]) -> int:
        rows = shards(len(image_ids) // 16)
        content = {"shards": Table.of([rows], COLUMNS), "images": figures(image_ids)}
        file = io.BytesIO(document(image_ids, rows))
        tracemalloc.start()
        for _ in sealed_lines(content):
            pass
        unsealed_lines(file, READ)
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    assert (peak(many) - peak(few)) / (len(many) - len(few)) < 25
