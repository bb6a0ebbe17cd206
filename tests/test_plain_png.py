"""Masks decoded without PIL: the same pixels, and anything unusual left alone."""

from __future__ import annotations

import io
import zlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, PngImagePlugin

from weakclip.errors import WeakClipError
from weakclip.masks import PALETTE, read_mask
from weakclip.plain_png import decode_plain_png

MASK = np.random.default_rng(0).integers(0, 9, (20, 31), dtype=np.uint8)
MANY = 10**6


def encode(mask: np.ndarray, mode: str = "P", **options: object) -> bytes:
    image = Image.fromarray(mask).convert(mode) if mode != "P" else Image.fromarray(mask)
    if mode == "P":
        image.putpalette(PALETTE.tobytes())
    file = io.BytesIO()
    image.save(file, format="PNG", **options)
    return file.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")


def png(lines: bytes, height: int, width: int, colours: int = 3, parts: int = 1, interlacing: int = 0) -> bytes:
    """A file of these lines, each with its filter before it, in so many chunks."""
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, colours, 0, 0, interlacing])
    packed = zlib.compress(lines)
    ends = [len(packed) * part // parts for part in range(parts + 1)]
    pixels = b"".join(chunk(b"IDAT", packed[start:end]) for start, end in pairwise(ends))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"PLTE", PALETTE.tobytes()) + pixels + chunk(b"IEND", b"")


@given(
    mask=arrays.arrays(np.uint8, arrays.array_shapes(min_dims=2, max_dims=2, max_side=40)),
    level=st.integers(0, 9),
)
def test_the_pixels_are_those_that_pil_finds(mask: np.ndarray, level: int) -> None:
    content = encode(mask, compress_level=level)
    with Image.open(io.BytesIO(content)) as image:
        np.testing.assert_array_equal(decode_plain_png(content, MANY), np.array(image))


def test_pixels_may_come_in_any_number_of_chunks_and_grey() -> None:
    lines = b"".join(b"\0" + line.tobytes() for line in MASK)
    for parts in (1, 2, 7):
        np.testing.assert_array_equal(decode_plain_png(png(lines, *MASK.shape, parts=parts), MANY), MASK)
    np.testing.assert_array_equal(decode_plain_png(png(lines, *MASK.shape, colours=0), MANY), MASK)


def test_other_kinds_of_picture_are_left_to_pil() -> None:
    filtered = b"".join(b"\1" + line.tobytes() for line in MASK)
    plain = b"".join(b"\0" + line.tobytes() for line in MASK)
    others = [
        png(filtered, *MASK.shape),
        png(plain, *MASK.shape, interlacing=1),
        png(plain[:-1], *MASK.shape),
        png(plain + b"\0", *MASK.shape),
        png(plain, MASK.shape[0], MASK.shape[1] + 1),
        encode(MASK, "RGB"),
        encode(MASK, "1"),
        encode(MASK % 4, bits=2),
        b"",
        b"\xff\xd8\xff",
    ]
    assert [decode_plain_png(content, MANY) for content in others] == [None] * len(others)
    assert decode_plain_png(encode(MASK), MASK.size - 1) is None  # too many pixels


def test_a_small_file_of_very_many_pixels_is_not_unpacked() -> None:
    assert decode_plain_png(png(b"\0" * 10**7, 20, 31), MANY) is None


def test_a_damaged_byte_is_never_read_as_a_mask() -> None:
    content = encode(MASK)
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 0x10
        assert decode_plain_png(bytes(damaged), MANY) is None
    for end in range(len(content)):
        assert decode_plain_png(content[:end], MANY) is None


def test_a_damaged_mask_is_refused_by_name_all_the_same(tmp_path: Path) -> None:
    content = encode(MASK)
    (tmp_path / "a.png").write_bytes(content[: len(content) // 2 + 400])
    with pytest.raises(WeakClipError, match=r"a\.png is damaged"):
        read_mask(tmp_path / "a.png")


def test_text_and_other_additions_do_not_matter() -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "drawn by hand")
    np.testing.assert_array_equal(decode_plain_png(encode(MASK, pnginfo=text), MANY), MASK)
