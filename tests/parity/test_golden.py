"""The published variant on a network of our own, against what it gave when it agreed with the released code."""

import numpy as np
import pytest

from tests.parity.own import OWN, Arrays, compute

LOOSE = {
    "losses/crf_photos": 1,
    "loss_units/crf_photo": 1,
    "grad_norms/all": 3e-2,
    "mini_training/losses": 2e-2,
    "mini_training/update_norms": 5e-2,
    "trainmode/losses": 2e-2,
}
"""Where a level of a photo can be cut the other way, or follows from one: levels, or shares."""


@pytest.fixture(scope="module")
def computed() -> Arrays:
    return compute()


with np.load(OWN) as stored:
    GOLDEN: Arrays = {name: stored[name] for name in stored.files}


def test_the_golden_set_holds_what_is_computed(computed: Arrays) -> None:
    assert computed.keys() == GOLDEN.keys()


@pytest.mark.parametrize("name", GOLDEN)
def test_golden(name: str, computed: Arrays) -> None:
    got, expected = computed[name], GOLDEN[name]
    assert got.shape == expected.shape
    if expected.dtype == np.uint8 and name in LOOSE:
        difference = np.abs(got.astype(int) - expected)
        assert difference.max() <= LOOSE[name] and (difference == 0).mean() >= 0.9
    elif expected.dtype.kind in "iu":
        assert np.array_equal(got, expected)
    else:
        loose = LOOSE.get(name, 1e-3)
        np.testing.assert_allclose(got, expected, rtol=loose, atol=1e-4 * min(1.0, float(np.abs(expected).max())))
