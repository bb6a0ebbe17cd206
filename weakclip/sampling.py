"""Which images a training step sees: every image once per pass, in an order that follows from seed and pass alone."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from weakclip.seeding import rng


@lru_cache(maxsize=4)
def _order(count: int, seed: int, purpose: str, epoch: int) -> NDArray[np.int64]:
    return rng(seed, purpose, "epoch", epoch).permutation(count)


def batch_indices(step: int, *, count: int, batch_size: int, seed: int, purpose: str) -> list[int]:
    """The images of a step counted from 0; passes follow each other without a gap, a batch may span two."""
    places = range(step * batch_size, (step + 1) * batch_size)
    return [int(_order(count, seed, purpose, place // count)[place % count]) for place in places]


def held_out(count: int, share: float, seed: int) -> NDArray[np.bool_]:
    """Marks a seeded share of ``count`` images, at least one where there are two and the share is not zero."""
    marked = np.zeros(count, bool)
    number = max(1, round(share * count)) if share > 0 and count > 1 else 0
    marked[rng(seed, "held out").permutation(count)[:number]] = True
    return marked
