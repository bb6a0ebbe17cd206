import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from tests.export.conftest import CLASSES
from weakclip.export.label_studio import packed, write_label_studio
from weakclip.export.masked_photos import MaskedPhoto


def unpacked(values: list[int]) -> np.ndarray:
    """The words of @thi.ng/rle-pack, read as its description says, runs and words that do not repeat alike."""
    bits: Iterator[int] = iter(np.unpackbits(np.array(values, np.uint8)).tolist())

    def number(count: int) -> int:
        return int("".join(str(next(bits)) for _ in range(count)), 2)

    total, word_bits = number(32), number(5) + 1
    count_bits = [number(4) + 1 for _ in range(4)]
    words: list[int] = []
    while len(words) < total:
        repeats = number(1)
        length = number(count_bits[number(2)]) + 1
        words += [number(word_bits)] * length if repeats else [number(word_bits) for _ in range(length)]
    assert len(words) == total
    return np.array(words, np.uint8)


@given(arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.booleans()))
def test_pictures_survive_packing(pixels: np.ndarray) -> None:
    words = unpacked(packed(pixels)).reshape(*pixels.shape, 4)
    assert np.array_equal(words, np.repeat(255 * pixels[..., None].astype(np.uint8), 4, axis=2))


@pytest.mark.parametrize("width", [1, 2, 64, 16383, 16384, 16385, 40000])
def test_runs_of_every_length_survive_packing(width: int) -> None:
    pixels = np.zeros((2, width), bool)
    pixels[1] = True
    assert np.array_equal(unpacked(packed(pixels)), np.repeat(255 * pixels.ravel().astype(np.uint8), 4))


def test_the_first_bytes_are_those_of_a_published_file() -> None:
    # A picture of 3332 x 2527 pixels in a public data set begins so: 33,679,856 words of 8 bits, counts of 3, 4, 8 and 16
    # bits, and a first run of 65,536 zeros.
    assert packed(np.zeros((2527, 3332), bool))[:10] == [2, 1, 233, 240, 57, 27, 255, 255, 255, 0]


def test_tasks_hold_a_brush_for_each_class_that_fits_the_interface(masked: list[MaskedPhoto], tmp_path: Path) -> None:
    out = tmp_path / "studio"
    out.mkdir()
    counts = write_label_studio(iter(masked), CLASSES, tmp_path / "photos", out)
    tasks = json.loads((out / "tasks.json").read_text(encoding="utf-8"))
    interface = ElementTree.parse(out / "labels.xml").getroot()
    image, brushes = interface.find("Image"), interface.find("BrushLabels")
    assert image is not None and brushes is not None
    labels = [label.get("value") for label in brushes]
    assert labels == list(CLASSES.names) and brushes.get("toName") == image.get("name") == "image"
    assert counts == {"tasks": 3, "brushes": 6}
    for photo, task in zip(masked, tasks, strict=True):
        name = task["data"]["image"].removeprefix("/data/local-files/?d=")
        assert str(tmp_path / "photos" / unquote(name)) == photo.record.photo and " " not in name
        mask = np.zeros_like(photo.mask)
        for row in task["predictions"][0]["result"]:
            assert (row["type"], row["from_name"], row["to_name"]) == ("brushlabels", brushes.get("name"), "image")
            assert (row["original_height"], row["original_width"]) == mask.shape
            alpha = unpacked(row["value"]["rle"]).reshape(*mask.shape, 4)[..., 3]
            mask[alpha == 255] = 1 + labels.index(row["value"]["brushlabels"][0])
        assert np.array_equal(mask, np.where(photo.mask == 255, 0, photo.mask))
