"""What the stages will take on the disk and in time: arithmetic on the images, from a few paces measured beforehand.

The shares below are what a stage's work costs relative to the image encoder's forward pass. They were counted (ViT-B/16 at
512 px: 215 GFLOP in the encoder, 100 in the decoder) or measured (steps of 1.2 and 5.4 at full size follow from `make bench`;
that of the mini world takes more), and differ by half in practice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from weakclip.datasets.index import Record
from weakclip.features.plan import ViewRecipe
from weakclip.inference import fitted_size, windows_along

DECODER: Final = 0.5  # a forward pass of the decoder
CACHED_STEP: Final = 1.5  # a training step of the decoder, CRF included, for each image of its batch
RECOMPUTED: Final = 1.4  # such a step with `weakclip.recompute` over one without
PUBLISHED_STEP: Final = 5.4  # forward and backward through encoder, texts and decoder, and a CRF of all classes
TRAINING: Final = 3  # a forward and a backward pass over a forward pass
CLASSIFIER_SECONDS: Final = 3e-8  # of a channel of a token in train_cam, on one core
SEED_SECONDS: Final = 1e-7  # of a pixel there: maps at photo size, label and seed as PNG
STRAYS: Final = 0.02  # of the classes that a photo has not, those that win a pixel of it where no tags forbid it
LABELS: Final = 3  # that the CRF is timed with, and that a photo has where tags do not say how many
PALETTE: Final = 840  # bytes of a mask's PNG beside its pixels
MASK_BYTES: Final = 0.017  # of one for each pixel: VOC's 10,582 take 42 MB
HALF: Final = 2  # bytes of a float16
FLOAT: Final = 4


@dataclass(frozen=True, kw_only=True)
class Pace:
    """Seconds: of the encoder for a token, of the CRF of the masks and that of the evaluation (0 where there is none) for a
    label of a pixel in one process, and of the DeepLab's forward pass for a pixel, in evaluation and in training."""

    token: float
    crf_label: float
    evaluation_label: float
    deeplab_pixel: float
    training_pixel: float


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Of one stage."""

    stage: str
    n_bytes: float
    seconds: float


def pixels(records: Sequence[Record]) -> int:
    """Of all photos together."""
    return sum(record.height * record.width for record in records)


def mask_bytes(records: Sequence[Record]) -> float:
    """Of a mask of each photo."""
    return sum(PALETTE + MASK_BYTES * record.height * record.width for record in records)


def labels(records: Sequence[Record], num_foreground: int, *, limited: bool) -> float:
    """Of all pixels together: background and the photo's tags; unless they are ``limited`` to these, some other class, too."""
    strays = 0.0 if limited else STRAYS
    return sum(
        (1 + len(record.tags) + strays * (num_foreground - len(record.tags))) * record.height * record.width
        for record in records
    )


def map_bytes(records: Sequence[Record], whole: ViewRecipe) -> int:
    """Of the class activation maps: float32, a photo's tags on the patches of its largest view. ``whole``: of whole photos."""
    return sum(FLOAT * len(record.tags) * (_largest(record, whole) - 1) for record in records)


def tokens_again(
    records: Sequence[Record],
    whole: ViewRecipe,
    *,
    source: str,
    calibrated_blocks: int,
    affinity_blocks: int,
    blocks: Sequence[int],
    depth: int,
) -> float:
    """What passes a CLIP of ``depth`` blocks once more to make maps or spread them, in tokens that pass all of it. ``source``,
    ``calibrated_blocks``, ``affinity_blocks``: as in `params.yaml`, section cam.

    The last blocks run from the tokens of the latest of the stored ``blocks`` before them; each class of GradCAM goes back
    through the last one, the calibrated path runs beside its blocks, and attention is computed again to be seen.
    """

    def run(count: int) -> int:
        """How many blocks run so that the last ``count`` do."""
        return depth - 1 - max((block for block in blocks if block < depth - count), default=-1)

    made = {"gradcam": run(1), "calibrated": run(calibrated_blocks) + calibrated_blocks}.get(source, 0)
    spreading = run(affinity_blocks) + affinity_blocks if affinity_blocks else 0
    total = 0
    for record in records:
        back = len(record.tags) if source == "gradcam" else 0
        total += whole.image_tokens(record) * (made + back)
        total += _largest(record, whole) * (2 if whole.flip else 1) * spreading
    return total / depth


def _largest(record: Record, whole: ViewRecipe) -> int:
    """Tokens of the largest view."""
    return max(whole.tokens(view) for view in whole.views(record))


def step_passes(variant: str, *, recompute: bool, online: bool) -> float:
    """A training step of the variant for each image of its batch; ``online``: the frozen encoder runs in it."""
    if variant == "published":
        return PUBLISHED_STEP
    return CACHED_STEP * (RECOMPUTED if recompute else 1) + (1 if online else 0)


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
