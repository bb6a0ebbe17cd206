"""Dense CRF and confidence gate against CLIP-ES: on the photo as it is, and with the quirks of the released script.

Those are made here: probabilities in float16, and a picture that is normalised, cut to 8 bits and so wraps around.
"""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.parity_beyond.cases import Case, Stored, cases, marked, opened
from weakclip.crf import CrfKernel, dense_crf
from weakclip.masks import IGNORE, winners
from weakclip.refinement import refine

KERNEL = CrfKernel(gaussian_sxy=1, gaussian_compat=3, bilateral_sxy=67, bilateral_srgb=3, bilateral_compat=4, iterations=10)
GATE = 0.95
BGR_MEAN = np.array([104.008, 116.669, 122.675])


def with_background(cams: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([1 - cams.max(axis=0, keepdims=True), cams])


def images(stored: Stored) -> list[str]:
    return [name.removeprefix("photo_rgb_") for name in stored.names if name.startswith("photo_rgb_")]


@pytest.mark.parametrize("case", marked(cases("crf_gate")))
def test_masks_and_gated_masks_as_published(case: Case) -> None:
    with opened(case) as stored:
        for name in images(stored):
            photo, cams, keys = (stored.array(f"{what}_{name}") for what in ("photo_rgb", "cams", "keys"))
            classes = np.concatenate([[0], keys + 1])

            plain = with_background(cams.astype(np.float32))
            stored.check(f"plain_q_{name}", dense_crf(photo, plain, KERNEL), atol=1e-4)
            mask, gated, _ = refine(photo, classes, plain, kernel=KERNEL, tags=(keys + 1).tolist(), tag_limited=True, gate=GATE)
            assert stored.agreement(f"plain_label_{name}", mask) >= 0.999
            assert stored.agreement(f"plain_gated_{name}", gated) >= 0.999

            picture = np.trunc(photo[..., ::-1] - BGR_MEAN).astype(int) % 256
            stored.check(f"crf_image_{name}", picture)
            unary = -np.log(np.clip(with_background(cams), 1e-5, 1))
            assert unary.dtype == np.float16
            stored.check(f"unary_{name}", unary)
            sharpened = dense_crf(picture.astype(np.uint8), np.exp(-unary.astype(np.float32)), KERNEL)
            stored.check(f"q_{name}", sharpened, atol=1e-4)
            best, confidence = winners(sharpened)
            assert stored.agreement(f"label_{name}", classes[best]) >= 0.999
            assert stored.agreement(f"gated_{name}", np.where(confidence < GATE, IGNORE, classes[best])) >= 0.999
