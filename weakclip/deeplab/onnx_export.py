"""A retrained DeepLab as an ONNX file: photos of any size in, class probabilities out, normalisation and padding inside."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import warnings
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from weakclip.deeplab.network import DeepLab
from weakclip.errors import WeakClipError

PACKAGES: Final = ("onnx", "onnxscript")
OPSET: Final = 20
INPUT: Final = "photos"
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


def export_onnx(model: DeepLab, out: Path) -> None:
    """Write the file, weights inside, at one scale and without the mirror; batch, height and width are free.

    Its metadata hold the names of the classes (``classes``, JSON) and the hash of the weights (``weights_sha256``).

    Raises:
        WeakClipError: the packages that write ONNX are not installed.
    """
    missing = [name for name in PACKAGES if not installed(name)]
    if missing:
        raise WeakClipError(f"{' and '.join(missing)} cannot be imported", "`pip install -e .[onnx]` installs what ONNX needs")
    free = dict.fromkeys((0, 2, 3), torch.export.Dim.DYNAMIC)
    example = torch.zeros(2, 3, 3 * model.multiple + 8, 4 * model.multiple + 8)
    # torch reports its steps and warns of its own deprecations.
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            Probabilities(model.cpu()).eval(),
            (example,),
            dynamo=True,
            dynamic_shapes=(free,),
            input_names=[INPUT],
            output_names=[OUTPUT],
            opset_version=OPSET,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("expected torch.onnx.export to return a program")
    card = model.card
    program.model.metadata_props["classes"] = json.dumps(card.get("classes"), ensure_ascii=False)
    program.model.metadata_props["weights_sha256"] = str(card.get("weights_sha256"))
    part = out.with_name(f".{out.name}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        program.save(os.fspath(part))
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)


def installed(name: str) -> bool:
    """Whether a module can be imported."""
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True
