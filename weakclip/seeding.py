"""Random streams that depend on what they are for, not on what was drawn before.

A training step draws from ``rng(seed, "purpose", step)``, so a run that resumes at that step draws the same numbers.
"""

from __future__ import annotations

import zlib

import numpy as np


def rng(*key: int | str) -> np.random.Generator:
    """The generator of a key such as ``(seed, "view", image_id, 3)``; words count by their checksum."""
    return np.random.default_rng([zlib.crc32(part.encode()) if isinstance(part, str) else part for part in key])


def seed_torch(*key: int | str) -> None:
    """Seeds torch for a key, for weight initialisation and dropout."""
    import torch  # kept out of the module so that torch-free stages may draw numbers

    torch.manual_seed(int(rng(*key, "torch").integers(2**62)))
