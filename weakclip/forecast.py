"""What the stages will take on the disk and in time: arithmetic on the images, from a few paces measured beforehand.

The shares below are what a stage's work costs relative to the image encoder's forward pass. They were counted (ViT-B/16 at
512 px: 215 GFLOP in the encoder, 100 in the decoder) or measured on the mini world, and differ by half in practice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from weakclip.datasets.index import Record
from weakclip.inference import fitted_size, windows_along

DECODER: Final = 0.5  # a forward pass of the decoder
CACHED_STEP: Final = 2.0  # a training step of the decoder, CRF included, for each image of its batch
ONLINE_STEP: Final = CACHED_STEP + 1
TRAINING: Final = 3  # a forward and a backward pass over a forward pass
CLASSIFIER_SECONDS: Final = 2e-5  # of a token in train_cam, on a core of 2.5 GHz
MASK_BYTES: Final = 0.022  # of a mask's PNG for each pixel: VOC's 10,582 take 42 MB
HALF: Final = 2  # bytes of a float16


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Seconds: of the encoder for a token, of the CRF for a pixel with three labels in one process, and of the DeepLab's
    forward pass for a pixel."""

    token: float
    crf_pixel: float
    deeplab_pixel: float


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Of one stage."""

    stage: str
    n_bytes: float
    seconds: float


def pixels(records: Sequence[Record]) -> int:
    """Of all photos together."""
    return sum(record.height * record.width for record in records)


def score_bytes(records: Sequence[Record]) -> int:
    """Of the class scores of photos: background and tags, float16, pixel by pixel."""
    return sum(HALF * (1 + len(record.tags)) * record.height * record.width for record in records)


def window_tokens(
    records: Sequence[Record],
    *,
    scales: Sequence[float],
    flip: bool,
    base_size: tuple[int, int],
    window: int,
    stride: int,
    patch: int,
) -> int:
    """The tokens of all sliding windows that the photos are seen through."""
    sizes: dict[tuple[int, int], int] = {}
    for record in records:
        size = record.height, record.width
        sizes[size] = sizes.get(size, 0) + 1
    total = 0
    for (height, width), count in sizes.items():
        for scale in scales:
            long_side, short_side = (side * scale for side in base_size)
            rows, columns = (
                sum((end - start) // patch for start, end in windows_along(side, window, stride, patch))
                for side in fitted_size(height, width, long_side=long_side, short_side=short_side, multiple=patch)
            )
            total += count * rows * columns
    return total * (2 if flip else 1)
