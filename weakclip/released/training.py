"""How the released code trains WeakCLIP, where that differs: rates, groups, and what its losses count.

* Pretrained parts (everything in the image and text encoder, and the pyramid adapter with them) have a base rate of 0; since
  the cosine leads from the base to an absolute minimum, their rate is not 0 but rises to that minimum.
* The warm-up is multiplied onto the cosine, which counts from the first step.
* All tensors decay, norms and biases too.
* The boundary loss asks a CRF of all classes, with a higher floor, about a picture whose levels are cut, not rounded.
* Unsure pixels count in the mean of the score map's loss. Logits are resized with corners aligned if both sides are odd.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from weakclip.adaptation import AdaptationSchedule, Tuning
from weakclip.datasets.index import Record
from weakclip.device import pinned
from weakclip.images import read_photo
from weakclip.masks import read_mask
from weakclip.network.weakclip import WeakClip
from weakclip.objective import Objective
from weakclip.sampling import batch_indices
from weakclip.seeding import rng
from weakclip.supervision import Batch
from weakclip.training_augmentation import Drawn, TrainingAugmentation, augment

MIN_LR: Final = 1e-6
WARMUP_RATIO: Final = 1e-6
BOUNDARY_FLOOR: Final = 1e-4
PRETRAINED: Final = ("encoder.", "text_encoder.", "pyramid.")
NEW: Final = "text_encoder.contexts"


def released_schedule(
    step: int, *, lr: float, iterations: int, warmup: int, min_lr: float = MIN_LR, warmup_ratio: float = WARMUP_RATIO
) -> float:
    """Learning rate of a step counted from 0, for a group with base rate ``lr``, which may be below ``min_lr``."""
    cosine = min_lr + (lr - min_lr) * (1 + math.cos(math.pi * step / iterations)) / 2
    return cosine * (1 - (1 - step / warmup) * (1 - warmup_ratio)) if step < warmup else cosine


def released_groups(model: WeakClip, weight_decay: float) -> list[dict[str, object]]:
    """What is new, and what is pretrained (or named as if it were)."""
    named = list(model.named_parameters())
    pretrained = [p for name, p in named if name.startswith(PRETRAINED) and name != NEW]
    new = [p for name, p in named if not name.startswith(PRETRAINED) or name == NEW]
    return [{"params": params, "weight_decay": weight_decay} for params in (new, pretrained)]


def released_rates(step: int, schedule: AdaptationSchedule) -> list[float]:
    """Rates of `released_groups`."""
    return [released_schedule(step, lr=lr, iterations=schedule.iterations, warmup=schedule.warmup) for lr in (schedule.lr, 0.0)]


RELEASED_TUNING: Final = Tuning(groups=released_groups, rates=released_rates)


def released_objective(objective: Objective, size: tuple[int, int]) -> Objective:
    """An objective with the quirks of the released code; probabilities are compared at ``size``."""
    return replace(
        objective, boundary_floor=BOUNDARY_FLOOR, tag_limited=False, count_unsure=True, size=size, align_odd_sizes=True
    )


def crf_photos(normalised: Tensor, size: tuple[int, int], mean: Tensor, std: Tensor) -> NDArray[np.uint8]:
    """Normalised images (B, 3, H, W) as the CRF of the boundary loss sees them: (B, h, w, 3) uint8.

    ``mean``, ``std``: (3, 1, 1), of 0..255. Resized with corners aligned; levels are cut, so that one an epsilon below a whole
    number is lost.
    """
    small = functional.interpolate(normalised.double(), size=size, mode="bilinear", align_corners=True).float()
    levels: NDArray[np.uint8] = (small * std + mean).clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
    return np.ascontiguousarray(levels)


def image_batch(images: Tensor, seeds: Tensor, size: tuple[int, int], model: WeakClip, records: Sequence[Record]) -> Batch:
    """A batch for a network with its own encoder: images (B, 3, H, W), 0..255, and seeds (B, H, W) int64 of that size."""
    encoder = model.encoder
    if encoder is None:
        raise ValueError("expected a network with an encoder of its own")
    return Batch(
        tokens=[],
        images=images,
        height=images.shape[2] // encoder.patch,
        width=images.shape[3] // encoder.patch,
        photos=crf_photos(encoder.normalise(images), size, encoder.mean, encoder.std),
        seeds=seeds,
        tags=[record.tags for record in records],
        names=[record.image_id for record in records],
    )


def image_batch_maker(
    records: Sequence[Record],
    augmentation: TrainingAugmentation,
    model: WeakClip,
    seed_folder: Path,
    *,
    batch_size: int,
    seed: int,
    size: int,
    part: slice = slice(None),
) -> Callable[[int], Batch]:
    """The function from a step to its batch: images and seeds at full size, and ``size``, the side of the CRF's photos.

    ``part``: which images of a batch are kept. All are made, for what is drawn for one depends on the seeds before it.
    """

    def make(step: int) -> Batch:
        draw = Drawn(rng(seed, "weakclip views", step))
        indices = batch_indices(step, count=len(records), batch_size=batch_size, seed=seed, purpose="weakclip")
        chosen = [records[index] for index in indices]
        views = [
            augment(photo, read_mask(seed_folder / f"{record.image_id}.png"), augmentation, draw)
            for record, photo in ((record, read_photo(record.photo, record.crc32)) for record in chosen)
        ][part]
        return image_batch(
            pinned(torch.from_numpy(np.stack([image for image, _ in views])).permute(0, 3, 1, 2)),
            pinned(torch.from_numpy(np.stack([labels for _, labels in views]).astype(np.int64))),
            (size, size),
            model,
            chosen[part],
        )

    return make
