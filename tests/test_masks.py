"""Label maps as palette PNGs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from weakclip.errors import WeakClipError
from weakclip.masks import IGNORE, PALETTE, read_mask, resize_mask, winners, write_mask


def test_the_palette_is_that_of_voc() -> None:
    assert PALETTE.shape == (256, 3) and PALETTE.dtype == np.uint8
    assert PALETTE[[0, 1, 2, 8, 15, 20]].tolist() == [
        [0, 0, 0],
        [128, 0, 0],
        [0, 128, 0],
        [64, 0, 0],
        [192, 128, 128],
        [0, 64, 128],
    ]
    assert PALETTE[IGNORE].tolist() == [224, 224, 192]
    assert len(np.unique(PALETTE, axis=0)) == 256


@given(mask=arrays.arrays(np.uint8, arrays.array_shapes(min_dims=2, max_dims=2, max_side=9)))
def test_a_mask_comes_back_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, mask: np.ndarray) -> None:
    path = tmp_path_factory.mktemp("masks") / "a.png"
    write_mask(path, mask)
    again = read_mask(path)
    np.testing.assert_array_equal(again, mask)
    assert again.dtype == np.uint8 and again.flags.writeable


def test_the_same_mask_gives_the_same_bytes_in_eight_bits(tmp_path: Path) -> None:
    mask = np.random.default_rng(0).integers(0, 3, (20, 30), dtype=np.uint8)
    write_mask(tmp_path / "a.png", mask)
    write_mask(tmp_path / "b.png", mask.copy(order="F"))
    content = (tmp_path / "a.png").read_bytes()
    assert content == (tmp_path / "b.png").read_bytes()
    assert (content[24], content[25]) == (8, 3)  # bit depth, palette


@pytest.mark.parametrize("mask", [np.zeros((4, 4), np.int64), np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), bool)])
def test_only_two_dimensional_bytes_are_written(tmp_path: Path, mask: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"a mask is \(H, W\) uint8, got"):
        write_mask(tmp_path / "a.png", mask)


def test_grey_pngs_are_read_as_indices(tmp_path: Path) -> None:
    mask = np.array([[0, 1], [20, 255]], dtype=np.uint8)
    Image.fromarray(mask).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), mask)
    Image.fromarray(mask > 0).save(tmp_path / "b.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "b.png"), mask > 0)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_palettes_of_few_bits_are_read_as_indices(tmp_path: Path, bits: int) -> None:
    image = Image.fromarray(np.eye(4, dtype=np.uint8))
    image.putpalette(PALETTE.tobytes())
    image.save(tmp_path / "a.png", bits=bits)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), np.eye(4))


def test_grey_of_four_bits_is_not_stretched(tmp_path: Path) -> None:
    image = Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4))
    image.putpalette(PALETTE.tobytes())
    image.save(tmp_path / "a.png", bits=4)
    content = bytearray((tmp_path / "a.png").read_bytes())
    # The same pixels as grey: colour type 0 in the header, with its checksum, and no palette.
    import zlib

    content[25] = 0
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    start = content.index(b"PLTE") - 4
    length = int.from_bytes(content[start : start + 4], "big")
    del content[start : start + 12 + length]
    (tmp_path / "b.png").write_bytes(content)
    np.testing.assert_array_equal(read_mask(tmp_path / "b.png"), np.arange(16).reshape(4, 4))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "I;16", "LA"])
def test_colours_are_refused_by_name(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(WeakClipError) as info:
        read_mask(tmp_path / "a.png")
    assert info.value.problem == f"{tmp_path / 'a.png'} is not a mask: it has {mode} pixels instead of class indices"
    assert "palette" in info.value.hint


def test_a_missing_or_damaged_mask_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(WeakClipError, match=r"a\.png is missing"):
        read_mask(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(WeakClipError, match=r"a\.png is empty"):
        read_mask(tmp_path / "a.png")


@given(
    mask=arrays.arrays(np.uint8, arrays.array_shapes(min_dims=2, max_dims=2, max_side=9)),
    height=st.integers(1, 20),
    width=st.integers(1, 20),
)
def test_resizing_makes_no_new_index(mask: np.ndarray, height: int, width: int) -> None:
    resized = resize_mask(mask, height, width)
    assert resized.shape == (height, width)
    assert set(np.unique(resized)) <= set(np.unique(mask))


def test_resizing_by_a_whole_factor_repeats_pixels() -> None:
    mask = np.array([[1, 2], [3, 255]], dtype=np.uint8)
    np.testing.assert_array_equal(resize_mask(mask, 4, 6), mask.repeat(2, axis=0).repeat(3, axis=1))


@given(scores=arrays.arrays(np.float32, (5, 3, 4), elements=st.sampled_from((0.0, 0.25, 0.5, 1.0))))
def test_winners_are_the_first_of_the_largest(scores: np.ndarray) -> None:
    index, largest = winners(scores)
    assert (index.dtype, largest.dtype) == (np.uint8, np.float32)
    assert np.array_equal(index, scores.argmax(axis=0)) and np.array_equal(largest, scores.max(axis=0))


def test_winners_leave_the_scores_as_they_are() -> None:
    scores = np.float32([[[0.2]], [[0.8]]])
    winners(scores)
    assert scores.tolist() == [[[np.float32(0.2)]], [[np.float32(0.8)]]]
