"""ResNet38 (Wu, Shen and van den Hengel, "Wider or Deeper", 2016): a wide, shallow encoder of stride 8 with 4096 channels.

Pre-activation blocks: norm and ReLU come before a convolution. Names of parameters are those of the published checkpoints.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from weakclip.deeplab.mxnet_params import read_params
from weakclip.state_files import read_state
from weakclip.weights import load_into

CHANNELS: Final = 4096
STRIDE: Final = 8
MOMENTUM: Final = 0.0003  # of the running statistics, as in the released training
# Stages of plain blocks: number of blocks, channels between the convolutions, channels after, stride, dilation.
STAGES: Final = {"b2": (3, 128, 128, 2, 1), "b3": (3, 256, 256, 2, 1), "b4": (6, 512, 512, 2, 1), "b5": (3, 512, 1024, 1, 2)}
# The two stages behind them, of one block: channels after, dropout.
BOTTLENECKS: Final = {"b6": (2048, 0.3), "b7": (CHANNELS, 0.5)}
# MXNet's names of what a norm holds.
NORM_PARTS: Final = {"gamma": "weight", "beta": "bias", "mean": "running_mean", "var": "running_var"}


class PlainBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut: the input itself where the shape stays, else a 1x1 convolution.

    ``dilation``: of the first and of the second convolution. `forward`: (B, C, h, w) -> (B, D, h, w), or half the size.
    """

    def __init__(self, channels: int, middle: int, out_channels: int, *, stride: int, dilation: tuple[int, int]) -> None:
        super().__init__()
        self.bn_branch2a = nn.BatchNorm2d(channels, momentum=MOMENTUM)
        self.conv_branch2a = _conv3(channels, middle, dilation[0], stride)
        self.bn_branch2b1 = nn.BatchNorm2d(middle, momentum=MOMENTUM)
        self.conv_branch2b1 = _conv3(middle, out_channels, dilation[1])
        same = channels == out_channels and stride == 1
        self.conv_branch1 = None if same else nn.Conv2d(channels, out_channels, 1, stride, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        activated = self.bn_branch2a(inputs).relu()
        shortcut = inputs if self.conv_branch1 is None else self.conv_branch1(activated)
        residual = self.conv_branch2b1(self.bn_branch2b1(self.conv_branch2a(activated)).relu())
        outputs: Tensor = shortcut + residual
        return outputs


class Bottleneck(nn.Module):
    """A dilated 3x3 convolution between two of 1x1, beside a shortcut of 1x1; ``dropout`` leaves out whole channels.

    `forward`: (B, C, h, w) -> (B, D, h, w).
    """

    def __init__(self, channels: int, out_channels: int, *, dilation: int, dropout: float) -> None:
        super().__init__()
        self.bn_branch2a = nn.BatchNorm2d(channels, momentum=MOMENTUM)
        self.conv_branch2a = nn.Conv2d(channels, out_channels // 4, 1, bias=False)
        self.bn_branch2b1 = nn.BatchNorm2d(out_channels // 4, momentum=MOMENTUM)
        self.conv_branch2b1 = _conv3(out_channels // 4, out_channels // 2, dilation)
        self.bn_branch2b2 = nn.BatchNorm2d(out_channels // 2, momentum=MOMENTUM)
        self.conv_branch2b2 = nn.Conv2d(out_channels // 2, out_channels, 1, bias=False)
        self.conv_branch1 = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, inputs: Tensor) -> Tensor:
        activated = self.bn_branch2a(inputs).relu()
        residual = self.bn_branch2b1(self.conv_branch2a(activated)).relu()
        residual = self.bn_branch2b2(self.conv_branch2b1(self.dropout(residual))).relu()
        outputs: Tensor = self.conv_branch1(activated) + self.conv_branch2b2(self.dropout(residual))
        return outputs


class ResNet38(nn.Module):
    """(B, 3, H, W) normalised pixels -> (B, 4096, H / 8, W / 8), rounded up, after the last norm and ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1a = _conv3(3, 64, 1)
        channels = 64
        for stage, (blocks, middle, out_channels, stride, dilation) in STAGES.items():
            for index in range(blocks):
                first = index == 0
                block = PlainBlock(
                    channels,
                    middle,
                    out_channels,
                    stride=stride if first else 1,
                    dilation=(1 if first else dilation, dilation),
                )
                self.add_module(stage if first else f"{stage}_{index}", block)
                channels = out_channels
        for stage, (out_channels, dropout) in BOTTLENECKS.items():
            self.add_module(stage, Bottleneck(channels, out_channels, dilation=4, dropout=dropout))
            channels = out_channels
        self.bn7 = nn.BatchNorm2d(channels, momentum=MOMENTUM)

    def forward(self, inputs: Tensor) -> Tensor:
        maps = inputs
        for part in self.children():  # in the order in which they were made
            maps = part(maps)
        return maps.relu()


def load_resnet38(network: ResNet38, path: Path) -> None:
    """Fills the encoder from ImageNet weights: MXNet's ``.params``, or a state dictionary that torch or safetensors wrote.

    A state dictionary may be that of the encoder or of a whole DeepLab; what the encoder does not have is left.

    Raises:
        WeakClipError: the file is missing or damaged, or lacks a tensor; it is named.
    """
    state = rename_mxnet(read_params(path)) if path.suffix == ".params" else read_state(path)
    own = network.state_dict()
    found = {key: state[spelling] for key in own for spelling in (key, f"backbone.{key}") if spelling in state}
    for key in own:  # MXNet and older files lack this counter, which no forward pass reads
        if key.endswith("num_batches_tracked"):
            found.setdefault(key, torch.tensor(0))
    load_into(network, found, str(path))


def rename_mxnet(arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    """MXNet's names of the network's tensors to those used here; the classifier of 1000 classes is left out.

    A name such as ``arg:bn3b1_branch2a_gamma`` is a kind (``bn`` or ``res``), a stage, ``a`` for its first block or ``b`` and
    the number of another one, the place in the block, and what it is.
    """
    return {name: tensor for key, tensor in arrays.items() if (name := _own_name(key.rpartition(":")[2]))}


def _own_name(key: str) -> str | None:
    unit, *place, part = key.replace("moving_", "").split("_")
    if unit == "conv1a":
        return f"conv1a.{part}"
    if unit == "bn7":
        return f"bn7.{NORM_PARTS.get(part, part)}"
    if len(place) != 1 or not unit.startswith(("bn", "res")):
        return None
    stage, index = unit.removeprefix("bn").removeprefix("res")[:1], unit[-1]
    block = f"b{stage}" if index == "a" else f"b{stage}_{index}"
    kind = "conv" if unit.startswith("res") else "bn"
    return f"{block}.{kind}_{place[0]}.{part if kind == 'conv' else NORM_PARTS.get(part, part)}"


def _conv3(channels: int, out_channels: int, dilation: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, out_channels, 3, stride, padding=dilation, dilation=dilation, bias=False)
