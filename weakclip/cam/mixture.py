"""Background thresholds from the maps' own values, without a mask: a mixture of Gaussians in one dimension.

CoSA (Yang et al. 2024; youshyee/CoSA) fits three components to the values of class activation maps, background, unsure and
foreground, and takes the thresholds from where they part. As released it stops after three steps, because variances start at 1
on values between 0 and 1, with components that almost coincide, so its thresholds hardly depend on the values; `RELEASED`
reproduces that. `CONVERGED`, which goes on until the likelihood stands still, is what the pipeline uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

FLOOR: Final = 0.05
"""Values up to it are left out: the empty part of a map says nothing of where the object ends."""
SPREAD: Final = 1e-6
"""Added to variances."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Stop:
    """When expectation-maximisation ends: the mean log likelihood changes by less than ``tolerance``, or after ``steps``."""

    tolerance: float
    steps: int


RELEASED: Final = Stop(tolerance=1e-3, steps=100)
CONVERGED: Final = Stop(tolerance=1e-6, steps=5000)


@dataclass(frozen=True)
class Mixture:
    """Gaussians in one dimension, each (k,), in ascending order of where their means started. ``steps``: taken by the fit."""

    weights: Floats
    means: Floats
    variances: Floats
    steps: int

    def components(self, values: Floats) -> NDArray[np.intp]:
        """The component that each value (n,) most likely belongs to."""
        found: NDArray[np.intp] = _log_joint(values, self).argmax(axis=1)
        return found


def fit_mixture(values: Floats, starts: Sequence[float], stop: Stop, counts: Floats | None = None) -> Mixture:
    """Expectation-maximisation on values (n,), from these means with equal weights and variances of 1.

    ``counts`` (n,): how often each value occurs; once without it.
    """
    counts = np.ones_like(values) if counts is None else counts
    total = counts.sum()
    size = len(starts)
    mixture = Mixture(np.full(size, 1 / size), np.asarray(starts, np.float64), np.ones(size), 0)
    before = -np.inf
    for step in range(1, stop.steps + 1):
        joint = _log_joint(values, mixture)
        highest = joint.max(axis=1, keepdims=True)
        evidence = highest + np.log(np.exp(joint - highest).sum(axis=1, keepdims=True))
        likelihood = float(counts @ evidence[:, 0] / total)
        shares = np.exp(joint - evidence) * counts[:, None]
        sums = np.maximum(shares.sum(axis=0), np.finfo(np.float64).tiny)
        means = shares.T @ values / sums
        variances = (shares * (values[:, None] - means) ** 2).sum(axis=0) / sums + SPREAD
        mixture = Mixture(sums / total, means, variances, step)
        if abs(likelihood - before) < stop.tolerance:
            break
        before = likelihood
    return mixture


def _log_joint(values: Floats, mixture: Mixture) -> Floats:
    scaled = (values[:, None] - mixture.means) ** 2 / mixture.variances
    log_joint: Floats = np.log(mixture.weights) - 0.5 * (np.log(2 * np.pi * mixture.variances) + scaled)
    return log_joint
