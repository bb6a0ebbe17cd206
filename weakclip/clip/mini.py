"""The mini CLIP: open_clip's own classes in a size that a laptop trains in half an hour.

Text width 32 keeps the stock tokenizer's full vocabulary (49,408 rows) affordable; rows of tokens that no caption of the
mini world uses are zero, so a word it has never read says nothing.
"""

from __future__ import annotations

from typing import Final

import open_clip
from open_clip.model import CLIPTextCfg, CLIPVisionCfg
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from weakclip.mini_encoder import MiniEncoder, strided_stem

MINI: Final = "mini"
MEAN: Final = IMAGENET_DEFAULT_MEAN  # of the stem
STD: Final = IMAGENET_DEFAULT_STD
EMBEDDING: Final = 128
VISION: Final = CLIPVisionCfg(layers=5, width=128, head_width=32, patch_size=8, image_size=128)
TEXT: Final = CLIPTextCfg(context_length=32, width=32, heads=2, layers=2)


def build_mini_clip() -> open_clip.CLIP:
    """A mini CLIP with fresh weights from torch's generator.

    A hybrid, as in the vision transformer's own paper (Dosovitskiy et al. 2021, section 3.1): tokens come from the first stages
    of a convolutional network, because a transformer this small does not learn to see from pixels in half an hour.
    """
    clip = open_clip.CLIP(embed_dim=EMBEDDING, vision_cfg=VISION, text_cfg=TEXT)
    clip.visual.conv1 = strided_stem(MiniEncoder(), VISION.width)
    return clip
