import colorsys

import numpy as np
import pytest

from weakclip.hsv import hsv_of_rgb, rgb_of_hsv
from weakclip.seeding import rng


@pytest.mark.parametrize(
    ("rgb", "hsv"),
    [
        ((255, 0, 0), (0, 255, 255)),
        ((255, 255, 0), (30, 255, 255)),
        ((0, 255, 0), (60, 255, 255)),
        ((0, 255, 255), (90, 255, 255)),
        ((0, 0, 255), (120, 255, 255)),
        ((255, 0, 255), (150, 255, 255)),
        ((0, 0, 0), (0, 0, 0)),
        ((90, 90, 90), (0, 0, 90)),
        ((200, 100, 100), (0, 127, 200)),
    ],
)
def test_known_colours_go_there_and_back(rgb: tuple[int, int, int], hsv: tuple[int, int, int]) -> None:
    pixel = np.array([[rgb]], np.uint8)
    assert tuple(hsv_of_rgb(pixel)[0, 0]) == hsv
    assert np.abs(rgb_of_hsv(hsv_of_rgb(pixel)).astype(int) - pixel).max() <= 2


def test_all_agrees_with_the_standard_library_up_to_a_level() -> None:
    photo = rng(0).integers(0, 256, (40, 50, 3)).astype(np.uint8)
    found = hsv_of_rgb(photo).astype(float)
    expected = np.array([colorsys.rgb_to_hsv(*(pixel / 255)) for pixel in photo.reshape(-1, 3)]).reshape(40, 50, 3)
    away = np.abs(found - expected * (180, 255, 255))
    away[..., 0] = np.minimum(away[..., 0], 180 - away[..., 0])
    assert away.max() <= 1
    back = rgb_of_hsv(found.astype(np.uint8)).astype(float)
    exact = np.array([colorsys.hsv_to_rgb(*(pixel / (180, 255, 255))) for pixel in found.reshape(-1, 3)]).reshape(40, 50, 3)
    assert np.abs(back - 255 * exact).max() <= 1.001
