"""The training batch of the parity cases, and what the published variant makes of it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tests.parity.cases import Case, weights
from tests.parity.networks import config, make_input
from weakclip.boundary_crf import InferCrfs, start_crfs
from weakclip.crf import CrfKernel
from weakclip.datasets.index import Record
from weakclip.masks import IGNORE
from weakclip.network.trained import TrainedWeakClip
from weakclip.objective import Objective, start_boundary_crfs
from weakclip.process_pool import KeptProcesses
from weakclip.released.training import image_batch, released_objective
from weakclip.supervision import Batch

NAMES = {
    "decode.loss_boundary": "boundary_loss",
    "decode.loss_seeding": "seeding_loss",
    "aux_identity.loss_ce": "score_map_loss",
}
"""Losses in the released code's words and in ours."""


def crfs(model: nn.Module, batch: Batch, aim: Objective) -> list[InferCrfs]:
    """Those of the boundary loss, in this process."""
    return start_boundary_crfs(model.num_classes, batch, aim, start_crfs(KeptProcesses(1)))


def weighted(case: Case, score_map_weight: float) -> Objective:
    """The losses as the case has them; those of the decoder have weight 1 in the released code."""
    return Objective(
        boundary_weight=1.0,
        boundary_kernel=CrfKernel(**case["kernel"]),
        score_map_weight=score_map_weight,
        score_map_temperature=case["temperature"],
    )


def objective(case: Case) -> Objective:
    height, width = config(case)["decode_head"]["feature_size"]
    weight = config(case)["identity_head"]["loss_decode"]["loss_weight"]
    return released_objective(weighted(case, weight), (height, width))


def make_labels(case: Case) -> NDArray[np.uint8]:
    num_classes = len(config(case)["class_names"])
    labels: NDArray[np.uint8] = weights().labels(case["labels"]["tag"], case["labels"]["shape"], num_classes, case["seed"])
    if case["last_background_ignored"]:
        labels[-1][labels[-1] == 0] = IGNORE
    return labels


def make_batch(case: Case, network: TrainedWeakClip) -> Batch:
    photos, labels = make_input(case["input"], case["seed"]), make_labels(case)
    size = objective(case).size
    assert size is not None
    records = [
        Record(image_id=str(number), photo="", height=0, width=0, split="train", tags=(), mask=None)
        for number in range(len(photos))
    ]
    images = torch.from_numpy(photos).permute(0, 3, 1, 2)
    return image_batch(images, torch.from_numpy(labels.astype(np.int64)), size, network.model, records)


def without_drops(model: nn.Module) -> nn.Module:
    """Every drop rate 0, as the cases in training mode have it."""
    for module in model.modules():
        if isinstance(module, nn.Dropout | nn.Dropout2d):
            module.p = 0.0
        elif hasattr(module, "drop_prob"):
            module.drop_prob = 0.0
    return model


def accuracy(scores: Tensor, seeds: Tensor) -> float:
    """Percent of all pixels, unsure ones included, where the score map is right."""
    resized = nn.functional.interpolate(scores, size=seeds.shape[1:], mode="bilinear", align_corners=False)
    return float((resized.argmax(dim=1) == seeds).float().mean() * 100)
