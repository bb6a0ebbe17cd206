"""The dense CRF against the released code's on the same photos and probabilities."""

from __future__ import annotations

import numpy as np
import pytest

from tests.parity.cases import Case, cases, golden, marked
from weakclip.crf import CrfKernel, dense_crf

EQUAL = 0.999
"""Share of pixels whose label agrees."""


@pytest.mark.parametrize("case", marked(cases("crf")))
def test_in_torch_every_kernel_gives_the_released_labels(case: Case) -> None:
    stored = golden().Golden(case.path)
    photo, probabilities = stored.stored("photo_rgb"), stored.stored("prob")
    for name, kernel in case["kernels"].items():
        wanted = dense_crf(photo, probabilities, CrfKernel(**kernel), case["floors"][name])
        sharpened = dense_crf(photo, probabilities, CrfKernel(**kernel, backend="torch"), case["floors"][name])
        assert np.mean(abs(sharpened - wanted) > 1e-3) < 1e-3
        assert np.median(abs(sharpened - wanted)) < 1e-5
        if f"{name}_label" in stored.names():
            labels = stored.stored("keys")[sharpened.argmax(axis=0)]
            assert stored.agreement(f"{name}_label", labels) >= EQUAL


@pytest.mark.parametrize("case", marked(cases("crf")))
def test_every_kernel_sharpens_as_the_released_code(case: Case) -> None:
    stored = golden().Golden(case.path)
    for name, kernel in case["kernels"].items():
        sharpened = dense_crf(stored.stored("photo_rgb"), stored.stored("prob"), CrfKernel(**kernel), case["floors"][name])
        stored.check(f"{name}_q", sharpened, atol=1e-4, rtol=0)
        if f"{name}_label" in stored.names():
            labels = stored.stored("keys")[sharpened.argmax(axis=0)]
            assert stored.agreement(f"{name}_label", labels) >= EQUAL
    compared = {f"{name}_{what}" for name in case["kernels"] for what in ("q", "label")}
    assert set(stored.names()) - compared == {"photo_rgb", "prob", "keys", "npypng_label"}


@pytest.mark.parametrize("case", marked(cases("crf")))
def test_without_a_crf_the_label_is_the_key_of_the_largest_probability(case: Case) -> None:
    stored = golden().Golden(case.path)
    assert stored.agreement("npypng_label", stored.stored("keys")[stored.stored("prob").argmax(axis=0)]) == 1.0
