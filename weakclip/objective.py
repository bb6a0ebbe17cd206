"""What WeakCLIP is trained for on a batch: seeding and boundary loss on the decoder, cross entropy on the score map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import joblib
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from weakclip.crf import CrfKernel, dense_crf
from weakclip.losses import boundary_loss, class_probabilities, cues, score_map_loss, seeding_loss
from weakclip.network.weakclip import WeakClip
from weakclip.supervision import Batch


@dataclass(frozen=True, kw_only=True)
class Objective:
    """``boundary_kernel``: of the dense CRF at the size of the batch's photos."""

    boundary_weight: float
    boundary_kernel: CrfKernel
    score_map_weight: float
    score_map_temperature: float


CrfTask = tuple[NDArray[np.uint8], NDArray[np.float32], CrfKernel]
RunCrf = Callable[[Sequence[CrfTask]], list[NDArray[np.float32]]]


def crf_pool(parallel: joblib.Parallel) -> RunCrf:
    """Runs the CRFs of a batch in a process pool that the caller keeps open."""
    return lambda tasks: list(parallel(joblib.delayed(dense_crf)(*task) for task in tasks))


def losses_of_batch(model: WeakClip, batch: Batch, objective: Objective, run_crf: RunCrf) -> dict[str, Tensor]:
    """The weighted losses by name."""
    logits, scores = model(batch.tokens, batch.height, batch.width)
    size = batch.seeds.shape[1:]
    probabilities = class_probabilities(functional.interpolate(logits, size=size, mode="bilinear", align_corners=False))
    losses = {"seeding_loss": seeding_loss(probabilities, cues(batch.seeds, probabilities.shape[1]))}
    if objective.boundary_weight > 0:
        target = crf_targets(probabilities.detach(), batch, objective.boundary_kernel, run_crf)
        losses["boundary_loss"] = objective.boundary_weight * boundary_loss(probabilities, target)
    losses["score_map_loss"] = objective.score_map_weight * score_map_loss(scores, batch.seeds, objective.score_map_temperature)
    return losses


def crf_targets(probabilities: Tensor, batch: Batch, kernel: CrfKernel, run_crf: RunCrf) -> Tensor:
    """What the dense CRF makes of each image's probabilities (B, K, S, S), among background and its tags; zero elsewhere."""
    present = [[0, *tags] for tags in batch.tags]
    values = probabilities.cpu().numpy()
    tasks = [
        (photo, renormalise(value[classes]), kernel)
        for photo, value, classes in zip(batch.photos, values, present, strict=True)
    ]
    target = torch.zeros_like(probabilities)
    for row, classes, refined in zip(target, present, run_crf(tasks), strict=True):
        row[classes] = torch.from_numpy(refined).to(row)
    return target


def renormalise(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, S, S) so that every pixel sums to one."""
    total: NDArray[np.float32] = probabilities.sum(axis=0, keepdims=True)
    return probabilities / total
