"""A ResNet38 of few channels, and files of its weights as other programs would write them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.deeplab.test_mxnet_params import params_bytes
from weakclip.deeplab import deeplabv1, resnet38
from weakclip.deeplab.resnet38 import ResNet38


def make_slim(patch: pytest.MonkeyPatch) -> None:
    """Gives ResNet38 and DeepLabV1 a few channels; their parts, names and strides stay, and where the shape changes."""
    slim = {
        name: (blocks, 8, 8 if middle == channels else 12, *rest)
        for name, (blocks, middle, channels, *rest) in resnet38.STAGES.items()
    }
    patch.setattr(resnet38, "STAGES", slim)
    patch.setattr(resnet38, "BOTTLENECKS", {"b6": (12, 0.3), "b7": (16, 0.5)})
    patch.setattr(deeplabv1, "CHANNELS", 16)
    patch.setattr(deeplabv1, "WIDTH", 8)


def mxnet_name(key: str) -> str:
    """What MXNet's checkpoint calls a tensor: written from its naming rules, apart from the code under test."""
    block, _, rest = key.partition(".")
    if block in ("conv1a", "bn7"):
        unit, part = block, rest
    else:
        place, part = rest.split(".")
        kind, branch = place.split("_")
        stage, _, index = block.removeprefix("b").partition("_")
        unit = f"{'res' if kind == 'conv' else 'bn'}{stage}{'b' + index if index else 'a'}_{branch}"
    if "conv" in key:
        return f"arg:{unit}_weight"
    part = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_var"}[part]
    return f"{'aux' if part.startswith('moving') else 'arg'}:{unit}_{part}"


def write_weights(network: ResNet38, file: Path, without: str = "") -> Path:
    state = {key: tensor for key, tensor in network.state_dict().items() if key != without}
    if file.suffix == ".params":
        arrays = {mxnet_name(key): tensor.numpy() for key, tensor in state.items() if "tracked" not in key}
        file.write_bytes(params_bytes({**arrays, "arg:linear1000_bias": np.zeros(1000, np.float32)}, version=0))
    elif file.suffix == ".pth":
        torch.save({"state_dict": {f"module.backbone.{key}": tensor for key, tensor in state.items()}}, file)
    else:
        save_file({**state, "fc8.weight": torch.zeros(3)}, file)
    return file
