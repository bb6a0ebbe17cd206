"""Sealed documents with a number for each of many images."""

from __future__ import annotations

import io
import json
import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest

from weakclip.image_figures import ImageFigures, ImageIds
from weakclip.sealed import sealed
from weakclip.sealed_figures import TOGETHER, sealed_lines, unsealed_lines

CONTENT = {"format": 2, "attributes": {"z": (1, 2), "a": {"images": {}}}, "shards": [{"file": "a", "rows": 3}], "zoom": "ß"}
MANY = [f"photo {number:05d}" for number in range(2 * TOGETHER + 1)]


def figures(image_ids: Sequence[str]) -> ImageFigures[int]:
    return ImageFigures[int](ImageIds(image_ids), np.arange(len(image_ids)) * 7)


def document(image_ids: Sequence[str]) -> bytes:
    return b"".join(sealed_lines(CONTENT, "images", figures(image_ids)))


@pytest.mark.parametrize("image_ids", [[], ["a"], ["b", "a", "Käse", 'quoted "c"'], MANY, MANY[::-1]])
def test_the_document_is_that_of_sealed(image_ids: list[str]) -> None:
    images = {image_id: 7 * place for place, image_id in enumerate(image_ids)}
    whole = sealed({**CONTENT, "images": images})
    assert document(image_ids) == (json.dumps(whole, indent=2) + "\n").encode()
    for written in (document(image_ids), json.dumps(whole).encode(), json.dumps(whole, indent=1).encode()):
        content, found = unsealed_lines(io.BytesIO(written), "images")
        assert content == json.loads(json.dumps(CONTENT))
        assert dict(found) == images and list(found) == image_ids


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace(b'"b": 7', b'"b": 8'),
        lambda text: text.replace(b'"b": 7', b'"b": "7"'),
        lambda text: text.replace(b'"b": 7', b'"b": 7.0'),
        lambda text: text.replace(b'"b": 7', b'"b": 99999999999999999999'),
        lambda text: text.replace(b'"b": 7', b'"b": ' + 100_000 * b"["),
        lambda text: text.replace(b'"b"', b'"a"'),
        lambda text: text.replace(b'"file": "a"', b'"file": "b"'),
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
    text = document(["a", "b", "c"])
    damaged = damage(text)
    try:
        _, found = unsealed_lines(io.BytesIO(damaged), "images")
    except ValueError:
        return
    assert dict(found) == {"a": 0, "b": 7, "c": 14}, damaged


def test_memory_is_that_of_the_ids_and_numbers() -> None:
    few, many = ([f"{number:07d}" for number in range(count)] for count in (20_000, 80_000))

    def peak(image_ids: list[str]) -> int:
        held, file = figures(image_ids), io.BytesIO(document(image_ids))
        tracemalloc.start()
        for _ in sealed_lines(CONTENT, "images", held):
            pass
        unsealed_lines(file, "images")
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    assert (peak(many) - peak(few)) / (len(many) - len(few)) < 60
