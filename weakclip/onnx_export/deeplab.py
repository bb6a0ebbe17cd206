"""A retrained DeepLab as an ONNX file: photos of any size in, class probabilities out, normalisation and padding inside."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from weakclip.deeplab.network import DeepLab
from weakclip.onnx_export.file import write_onnx

OUTPUT: Final = "probabilities"


class Probabilities(nn.Module):
    """The network between pixels and probabilities: what `predict_probabilities` computes at scale 1 without the mirror."""

    def __init__(self, network: DeepLab) -> None:
        super().__init__()
        self.network = network

    def forward(self, photos: Tensor) -> Tensor:
        """(B, 3, H, W) float32 RGB, 0..255, to (B, K, H, W) that add up to 1."""
        network = self.network
        height, width = photos.shape[-2:]
        right, below = -width % network.multiple, -height % network.multiple
        padded = functional.pad(photos - network.mean, (0, right, 0, below)) + network.mean
        logits = functional.interpolate(
            network(padded), size=padded.shape[-2:], mode="bilinear", align_corners=network.views.align_corners
        )
        return logits[..., :height, :width].softmax(dim=1)


def export_deeplab(model: DeepLab, out: Path) -> None:
    """Write the file, at one scale and without the mirror; batch, height and width are free.

    Its metadata hold the names of the classes (``classes``, JSON) and the hash of the weights (``weights_sha256``).

    Raises:
        WeakClipError: the packages that write ONNX are not installed.
    """
    example = torch.zeros(2, 3, 3 * model.multiple + 8, 4 * model.multiple + 8)
    about = {"classes": model.card.get("classes"), "weights_sha256": str(model.card.get("weights_sha256"))}
    free = {0: "batch", 2: "height", 3: "width"}
    write_onnx(Probabilities(model), example, out, free=free, output=OUTPUT, about=about)
