"""CoSA's thresholds from a mixture of Gaussians, as released and converged."""

import numpy as np
import pytest

from tests.parity_beyond.cases import Case, cases, marked, opened
from weakclip.cam.mixture import CONVERGED, FLOOR, RELEASED, Mixture, fit_mixture


def ends(values: np.ndarray, mixture: Mixture) -> tuple[float, float]:
    """Largest value of the lowest component and smallest of the highest."""
    components = mixture.components(values)
    return values[components == 0].max(), values[components == 2].min()


@pytest.mark.parametrize("case", marked(cases("mixture")))
def test_thresholds(case: Case) -> None:
    with opened(case) as stored:
        for number in stored.numbers("values_{}"):
            values = stored.array(f"values_{number}").astype(np.float64)
            values = values[values > FLOOR]
            low, median, high = values.min(), np.median(values), values.max()
            released = fit_mixture(values, (low, median, high), RELEASED)
            stored.check(f"em_steps_{number}", released.steps)
            for name in ("means", "weights", "variances"):
                stored.check(f"{name}_{number}", getattr(released, name), atol=1e-5)
            for name, value in zip(("low", "high"), ends(values, released), strict=True):
                stored.check(f"{name}_{number}", value, atol=2e-3)
            two = fit_mixture(values, (low, high), RELEASED)
            stored.check(f"two_component_{number}", values[two.components(values) == 0].max(), atol=2e-3)
            converged = fit_mixture(values, (low, median, high), CONVERGED)
            stored.check(f"converged_means_{number}", converged.means, atol=5e-3)
            for name, value in zip(("low", "high"), ends(values, converged), strict=True):
                stored.check(f"converged_{name}_{number}", value, atol=5e-3)
