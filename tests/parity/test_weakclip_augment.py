"""The training augmentation of WeakCLIP itself, for scripted draws."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from tests.parity.cases import Case, cases, golden, marked, read_json
from weakclip.inference import fitted_size
from weakclip.network.published import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from weakclip.resampling import resize_nearest, resize_without_antialias
from weakclip.training_augmentation import Crop, cropped, distort_colours, padded

MEAN, STD = (255 * np.array(values, np.float32) for values in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD))


@dataclass
class Script:
    """Numbers that were drawn for the released code; asking for others than it asked for fails."""

    left: Iterator[list]

    def integer(self, low: int, high: int) -> int:
        kind, *bounds, _, value = next(self.left)
        assert (kind, bounds) == ("randint", [high] if low == 0 else [low, high])
        return int(value)

    def uniform(self, low: float, high: float) -> float:
        kind, *bounds, _, value = next(self.left)
        assert (kind, bounds) == ("uniform", [low, high])
        return float(value)


@pytest.mark.parametrize("case", marked(cases("weakclip_augment")))
def test_scripted_augmentation(case: Case) -> None:
    stored = golden().Golden(case.path)
    photo, mask = stored.stored("image_bgr")[..., ::-1], stored.stored("labels")
    scripts = read_json(case, "draws")
    colours = [script for script in scripts if isinstance(script, list)]
    assert colours and len(colours) < len(scripts)
    for index, script in enumerate(colours):
        draws = Script(iter(script))
        assert_levels(distort_colours(photo, draws)[..., ::-1], stored.stored(f"photometric{index}"))
        assert next(draws.left, None) is None
    for script in scripts[len(colours) :]:
        index = script["case"].removeprefix("pipeline")
        long_side, short_side = script["scale"]
        size = fitted_size(*mask.shape, long_side=long_side, short_side=short_side)
        assert list(size) == script["resized_hw"]
        resized, labels = resize_without_antialias(photo, *size), resize_nearest(mask, *size)
        assert np.array_equal(resized[..., ::-1], stored.stored(f"resize_image{index}"))
        assert np.array_equal(labels, stored.stored(f"resize_labels{index}"))
        crop, window = Crop(script["y0"], script["x0"]), tuple(script["crop"])
        resized, labels = cropped(resized, crop, window), cropped(labels, crop, window)
        if script["flip"]:
            resized, labels = resized[:, ::-1], labels[:, ::-1]
        pixels, labels = padded(resized, labels, window, MEAN)
        stored.check(f"final_image{index}", (pixels - MEAN) / STD, atol=1e-5, rtol=1e-5)
        assert np.array_equal(labels, stored.stored(f"final_labels{index}"))


def assert_levels(found: np.ndarray, expected: np.ndarray) -> None:
    """At most one grey level apart on 99 % of the values, two anywhere."""
    difference = np.abs(found.astype(int) - expected)
    assert (difference <= 1).mean() >= 0.99 and difference.max() <= 2, (difference <= 1).mean()
