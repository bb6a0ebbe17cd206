"""What caching features will take, before it is begun: the encoder timed on two views, and the arithmetic of their number."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from weakclip.features.size import CacheSize
from weakclip.progress import duration, size

VIEWS: Final = 2


def seconds_per_token(encoder: Callable[[Tensor], object], side: int, patch: int) -> float:
    """Of the encoder, for square views of ``side`` pixels: measured on two of them, after one that does not count.

    Attention takes longer in larger views, so this holds for about that size.
    """
    noise = torch.Generator().manual_seed(0)
    views = torch.randint(0, 256, (VIEWS, 3, side, side), generator=noise, dtype=torch.uint8)
    with torch.inference_mode():
        encoder(views[:1])
        wait()
        start = time.perf_counter()
        encoder(views)
        wait()
    return (time.perf_counter() - start) / (VIEWS * (1 + (side // patch) ** 2))


def wait() -> None:
    """Return when all is computed: a GPU works behind the program."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def describe(total: CacheSize, token_seconds: float) -> str:
    """A line on the size and the time of a cache."""
    time_needed = duration(total.tokens * token_seconds)
    return f"forecast: {total.images:,} images, {total.views:,} views, {size(total.n_bytes)}; about {time_needed} of encoding"
