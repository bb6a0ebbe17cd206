"""Checkpoints of the released DeepLabV1-ResNet38, brought into this project's own format."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from weakclip.datasets.index import ClassList
from weakclip.deeplab.deeplabv1 import ENCODER
from weakclip.deeplab.encoders import weights_source
from weakclip.deeplab.model import build_deeplab, network_card
from weakclip.deeplab.prediction import WEIGHTS
from weakclip.deeplab.resnet38 import STRIDE
from weakclip.errors import WeakClipError
from weakclip.state_files import Imported, read_state
from weakclip.weights import load_into, save_weights

NETWORK: Final = "deeplabv1_resnet38"
CLASSIFIER: Final = "cls_conv.weight"
FIRST: Final = "backbone.conv1a.weight"


def is_deeplab(state: dict[str, Tensor]) -> bool:
    """Whether a state dictionary is that of a released DeepLabV1-ResNet38, rather than of a WeakCLIP."""
    return CLASSIFIER in state and FIRST in state


def is_released_deeplab(path: Path) -> bool:
    """`is_deeplab` of a file; whatever cannot be read is none."""
    try:
        return is_deeplab(read_state(path, "the command"))
    except WeakClipError:
        return False


def import_deeplab(path: Path, classes: ClassList, out: Path) -> Imported:
    """Writes ``out/deeplab.safetensors`` with its card, from which `evaluate` runs, out of a released ``.pth``.

    The file is a bare state dictionary; it is read without running anything in it. Tensors that the network does not have are
    left out and returned by name. ``classes``: those the checkpoint was trained on, in its order.

    Raises:
        WeakClipError: the file is missing, damaged, another network's or another number of classes'; names the first tensors
            that are missing or have another shape, with both shapes.
    """
    state = read_state(path, "the command")
    if not is_deeplab(state):
        problem = f"{path} is not a DeepLabV1 with ResNet38: it has no {CLASSIFIER} or no {FIRST}"
        raise WeakClipError(problem, "give the .pth that the released retraining code wrote")
    found = state[CLASSIFIER].shape[0]
    if found != classes.num_classes:
        problem = f"{path} has {found} classes, background included; the list of classes has {classes.num_classes}"
        raise WeakClipError(problem, "give the list of classes that it was trained on: --classes voc12, coco14 or a file")
    model = build_deeplab(network=NETWORK, encoder=ENCODER, encoder_weights="none", num_classes=found, output_stride=STRIDE)
    own = model.state_dict()
    kept = {name: tensor for name, tensor in state.items() if name in own}
    for name in own:
        if name.endswith("num_batches_tracked"):  # read by no forward pass, and absent from older files
            kept.setdefault(name, torch.tensor(0))
    load_into(model, kept, str(path))
    card = network_card(model, NETWORK, ENCODER, STRIDE, classes)
    save_weights(out, WEIGHTS, model.state_dict(), {**card, "imported": weights_source(str(path))})
    unused = set(state) - set(kept)
    return Imported(used=len(state) - len(unused), unused=tuple(sorted(unused)))
