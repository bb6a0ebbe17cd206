"""Thresholds from the values of maps."""

import numpy as np
import pytest

from weakclip.cam.mixture import CONVERGED, fit_mixture
from weakclip.cam.thresholds import BINS, count_values, fixed_thresholds, mixture_thresholds


def maps(low: float, high: float) -> np.ndarray:
    """Values around two of them, and a few between: (1, 30, 40)."""
    draw = np.random.default_rng(0)
    values = np.concatenate([draw.normal(low, 0.03, 700), draw.normal(high, 0.03, 400), draw.uniform(low, high, 100)])
    return values.clip(0, 1).astype(np.float32).reshape(1, 30, 40)


def test_counts_of_values_do_not_decide_otherwise_than_the_values() -> None:
    values = np.array([0.1, 0.12, 0.8, 0.82])
    repeated = np.repeat(values, [3, 1, 2, 4])
    one = fit_mixture(repeated, (0.1, 0.82), CONVERGED)
    other = fit_mixture(values, (0.1, 0.82), CONVERGED, np.array([3.0, 1.0, 2.0, 4.0]))
    assert one.steps == other.steps
    np.testing.assert_allclose(one.means, other.means)
    np.testing.assert_allclose(one.means, [(3 * 0.1 + 0.12) / 4, (2 * 0.8 + 4 * 0.82) / 6], atol=1e-6)


def test_each_class_is_parted_where_its_own_values_part() -> None:
    found = mixture_thresholds(count_values([((1,), maps(0.2, 0.9)), ((2,), maps(0.1, 0.5))], 3))
    assert 0.3 < found[1].at < 0.8 and 0.15 < found[2].at < 0.45
    for own in (found[1], found[2]):
        assert own.below == own.above > 0
    assert found[3] == mixture_thresholds(count_values([((1,), maps(0.2, 0.9)), ((1,), maps(0.1, 0.5))], 1))[1]


def test_counting_is_by_class_over_all_images() -> None:
    counts = count_values([((2, 1), np.array([[[0.0, 1.0]], [[0.5, 0.5]]])), ((2,), np.array([[[1.0]]]))], 2)
    assert counts.shape == (2, BINS) and counts[0].sum() == 2
    assert (counts[1, 0], counts[1, -1]) == (1, 2)


def test_without_any_value_there_is_a_threshold_all_the_same() -> None:
    assert mixture_thresholds(np.zeros((1, BINS), np.int64))[1].at == 0.5


def test_a_fixed_threshold_is_the_same_for_all_classes() -> None:
    found = fixed_thresholds(2, 0.6, 0.1)
    assert found[1] == found[2] and (found[1].at, found[1].below, found[1].above) == (0.6, 0.1, 0.1)
    assert found.keys() == {1, 2}


@pytest.mark.parametrize("values", [np.full((1, 2, 2), 0.7, np.float32), np.zeros((1, 2, 2), np.float32)])
def test_values_that_do_not_part_give_the_common_threshold(values: np.ndarray) -> None:
    found = mixture_thresholds(count_values([((1,), values), ((2,), maps(0.2, 0.9))], 2))
    assert found[1] == mixture_thresholds(count_values([((1,), values), ((1,), maps(0.2, 0.9))], 1))[1]
