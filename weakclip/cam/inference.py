"""Class activation maps of the present classes, fused over scales and mirrors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from weakclip.cam.classifier import CamClassifier


@dataclass(frozen=True, kw_only=True)
class TokenGrid:
    """Visual embeddings of one view: ``tokens`` (h w, E) without class token, ``height`` h, ``width`` w, ``flip``: mirrored."""

    tokens: Tensor
    height: int
    width: int
    flip: bool


@torch.inference_mode()
def activation_maps(classifier: CamClassifier, views: Sequence[TokenGrid], tags: Sequence[int]) -> Tensor:
    """Maps of the present classes (len(tags), h, w) in 0..1, each with maximum 1, at the grid of the largest view.

    ``tags``: 1-based classes. A token's score is its softmax over the present classes and the background words: absent
    classes do not compete, for the tags rule them out.
    """
    background = range(classifier.num_foreground, len(classifier.texts))
    competitors = torch.tensor([tag - 1 for tag in tags] + list(background))
    largest = max(views, key=lambda view: view.height * view.width)
    total = torch.zeros(len(tags), largest.height, largest.width)
    for view in views:
        logits = classifier(view.tokens)[:, competitors]
        maps = logits.softmax(dim=-1)[:, : len(tags)].T.reshape(1, len(tags), view.height, view.width)
        if view.flip:
            maps = maps.flip(-1)
        total += functional.interpolate(maps, size=total.shape[1:], mode="bilinear", align_corners=False)[0]
    return normalise(total / len(views))


def normalise(maps: Tensor) -> Tensor:
    """Each map (n, h, w) divided by its maximum; a map that is zero everywhere stays zero."""
    peak = maps.flatten(1).amax(dim=1).clamp_min(1e-6)
    return maps / peak[:, None, None]
