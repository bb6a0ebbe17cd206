"""Regions and their outlines, drawn again by pycocotools."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as run_lengths

from tests.export.conftest import discs
from weakclip.export.outlines import polygon, rings
from weakclip.regions import Region, regions

# pycocotools 2.0.11 decodes masks in a way that numpy 2 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

MASKS = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.sampled_from([0, 1, 2, 255]))


def drawn(region: Region, height: int, width: int) -> np.ndarray:
    flat = polygon(region).ravel().astype(float).tolist()
    return run_lengths.decode(run_lengths.frPyObjects([flat], height, width))[..., 0].astype(bool)


@given(MASKS)
def test_regions_are_the_foreground_each_pixel_once(mask: np.ndarray) -> None:
    back = np.zeros_like(mask)
    for region in regions(mask):
        pixels = region.in_photo(*mask.shape)
        assert pixels.any(axis=0).any() and not back[pixels].any()
        back[pixels] = region.class_index
    assert np.array_equal(back, np.where(mask == 255, 0, mask))


@given(MASKS)
def test_small_outlines_are_exact(mask: np.ndarray) -> None:
    for region in regions(mask):
        if region.area < 64:
            assert np.array_equal(drawn(region, *mask.shape), region.in_photo(*mask.shape))


def test_corners_connect_and_classes_do_not() -> None:
    mask = np.array([[1, 0, 2], [0, 1, 2], [1, 0, 0], [0, 0, 1]], np.uint8)
    assert [(region.class_index, region.top, region.left, region.area) for region in regions(mask)] == [
        (1, 0, 0, 3),
        (1, 3, 2, 1),
        (2, 0, 2, 2),
    ]
    mask[3, 1] = 1
    assert [region.area for region in regions(mask)] == [5, 2] and len(regions(np.rot90(mask).copy())) == 2


def test_rings_go_clockwise_and_holes_the_other_way() -> None:
    pixels = np.ones((5, 6), bool)
    pixels[1, 1] = pixels[2, 2] = pixels[3, 4] = False  # the first two touch at a corner: two holes
    outer, *holes = rings(pixels)
    assert outer.tolist() == [[0, 0], [6, 0], [6, 5], [0, 5]]
    assert [hole.tolist()[0] for hole in holes] == [[1, 1], [2, 2], [4, 3]] and all(len(hole) == 4 for hole in holes)


@pytest.mark.parametrize("size", [40, 200])
def test_outlines_of_large_regions_lie_within_three_quarters_of_a_pixel(size: int) -> None:
    mask = discs(size, size + 8)
    for region in regions(mask):
        whole = region.in_photo(*mask.shape)
        found = drawn(region, *mask.shape)
        assert (found & whole).sum() / (found | whole).sum() > (0.93 if size == 40 else 0.985)
        corners = sum(len(ring) for ring in rings(region.pixels))
        assert region.area < 64 or len(polygon(region)) < corners
