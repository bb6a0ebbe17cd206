"""The mini CLIP: open_clip's own classes in a size that a laptop trains in half an hour.

Text width 32 keeps the stock tokenizer's full vocabulary (49,408 rows) affordable; rows of tokens that no caption of the
mini world uses are zero, so a word it has never read says nothing.
"""

from __future__ import annotations

from typing import Final

import open_clip
from open_clip.model import CLIPTextCfg, CLIPVisionCfg
from torch import nn

MINI: Final = "mini"
MEAN: Final = (0.5, 0.5, 0.5)
STD: Final = (0.25, 0.25, 0.25)
EMBEDDING: Final = 128
VISION: Final = CLIPVisionCfg(layers=5, width=128, head_width=32, patch_size=8, image_size=128)
TEXT: Final = CLIPTextCfg(context_length=32, width=32, heads=2, layers=2)


STEM: Final = (24, 48, 96)


def convolutional_stem(channels: int) -> nn.Sequential:
    """Pixels to tokens by three strided 3x3 convolutions instead of one of 8x8: a transformer this small learns several
    times faster behind it (Xiao et al. 2021, Early convolutions help transformers see better)."""
    layers: list[nn.Module] = []
    for before, after in zip((3, *STEM), STEM, strict=False):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(STEM[-1], channels, 1))


def build_mini_clip() -> open_clip.CLIP:
    """A mini CLIP with fresh weights from torch's generator."""
    clip = open_clip.CLIP(embed_dim=EMBEDDING, vision_cfg=VISION, text_cfg=TEXT)
    clip.visual.conv1 = convolutional_stem(VISION.width)
    return clip
