"""The network of WeakCLIP's released code, quirks included: each is named here, and nowhere else in the network.

* The encoder sees photos in ImageNet's normalisation, adds the class embedding to its own position, resizes the positions
  bilinearly, and drops paths while it trains. It moves, and so does the text encoder.
* Every layer of the context decoders is given the same first input, so only the last one counts: one is built.
* The pyramid adapter keeps CLIP's width, normalises the two coarser levels only, and pools without the last odd cell.
* The score map is joined to the pyramid with corners aligned; background is a class with a name like any other.
* The decode head normalises over the batch, doubles sizes, and stretches what odd sizes have lost at the end.

Sources: the released code of WeakCLIP (IJCV 2024), of DenseCLIP (Rao et al. 2022) on which it builds.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers.drop import DropPath
from torch import Tensor, nn

from weakclip.clip.image_encoder import ImageEncoder, VisualProjection, resize_positions
from weakclip.clip.model import Clip
from weakclip.clip.text_encoder import TextEncoder
from weakclip.network.context_decoder import CoAttention, ContextDecoder
from weakclip.network.decode_head import DecodeHead, Size
from weakclip.network.neck import Neck
from weakclip.network.pyramid import PyramidAdapter, raise_twice
from weakclip.network.weakclip import WeakClip, WeakClipSizes

BACKGROUND: Final = "background"
TOKENS_OF_A_NAME: Final = 5
"""What a class name may have, start and end included."""
STOCHASTIC_DEPTH: Final = 0.1
"""Share of residual paths dropped in the last block; linear from 0 in the first."""
DROPOUT: Final = 0.1


class MovingImageEncoder(ImageEncoder):
    """The image encoder of the released code."""

    def __init__(self, clip: Clip, blocks: Sequence[int], precision: str = "float32") -> None:
        super().__init__(clip, blocks, precision)
        resblocks = self.visual.transformer.resblocks
        for block, rate in zip(resblocks, torch.linspace(0, STOCHASTIC_DEPTH, len(resblocks)).tolist(), strict=True):
            block.ls_1, block.ls_2 = DropPath(rate), DropPath(rate)

    def positions(self, size: Size) -> Tensor:
        """What is added to the tokens of a grid of ``size``, (1 + h w, C), the class embedding a second time among it."""
        visual = self.visual
        positions = resize_positions(visual.positional_embedding, visual.grid_size, size, mode="bilinear", antialias=False)
        return torch.cat([positions[:1] + visual.class_embedding, positions[1:]])

    def train(self, mode: bool = True) -> MovingImageEncoder:
        """Training mode, but for the norms of the stem."""
        super().train(mode)
        self.visual.conv1.eval()  # the mini CLIP has batch norms there, and the released code has none in its encoder
        return self


class UnevenPyramidAdapter(PyramidAdapter):
    """The pyramid adapter of the released code. `forward` as its base, with the width of the maps as channels."""

    def __init__(self, width: int) -> None:
        super().__init__(width, width)
        self.to_4x = raise_twice(width, width, nn.BatchNorm2d(width))
        self.to_1x = nn.GroupNorm(1, width)
        self.to_half = nn.Sequential(nn.GroupNorm(1, width), nn.MaxPool2d(2))


def by_doubling(sizes: Sequence[Size], level: int) -> list[Size]:
    """Twice the size after each block, whatever the sizes of the other levels; the finest level stays."""
    height, width = sizes[level]
    return [(height << times, width << times) for times in range(1, level + 1)] or [(height, width)]


def start_from_clip(clip: Clip, image_size: int, context_length: int) -> Clip:
    """A copy of CLIP that may move, as the released code loads it.

    Visual positions are resized to the grid of an ``image_size``, once and for good; text positions are cut to what a class
    name and ``context_length`` contexts need. Photos are normalised as ImageNet's.
    """
    network = copy.deepcopy(clip.network).requires_grad_(True)
    visual, side = network.visual, image_size // clip.patch
    with torch.no_grad():
        positions = resize_positions(
            visual.positional_embedding, visual.grid_size, (side, side), mode="bilinear", antialias=False
        )
        visual.positional_embedding = nn.Parameter(positions.clone())
        visual.grid_size = (side, side)
        length = context_length + TOKENS_OF_A_NAME
        network.positional_embedding = nn.Parameter(network.positional_embedding[:length].clone())
        network.attn_mask = network.attn_mask[:length, :length].clone()
        network.context_length = len(network.positional_embedding)
    return replace(clip, network=network, mean=IMAGENET_DEFAULT_MEAN, std=IMAGENET_DEFAULT_STD)


def build_published(
    clip: Clip, *, blocks: Sequence[int], class_names: Sequence[str], sizes: WeakClipSizes, precision: str = "float32"
) -> WeakClip:
    """The published variant on a CLIP that is not frozen, such as one from `start_from_clip`, which becomes part of it.

    Of ``sizes``, the switches of ablations and the number of decoder layers are not looked at.
    """
    num_classes = 1 + len(class_names)
    decoder = ContextDecoder(clip.embedding, sizes.decoder_width, 1, sizes.decoder_heads, DROPOUT)
    text_encoder = TextEncoder(clip, [BACKGROUND, *class_names], sizes.context_length)
    nn.init.trunc_normal_(text_encoder.contexts)
    model = WeakClip(
        text_encoder=text_encoder,
        projection=VisualProjection(clip),
        co_attention=CoAttention(decoder, clip.embedding),
        pyramid=UnevenPyramidAdapter(clip.width),
        neck=Neck(clip.width + num_classes, sizes.channels),
        head=DecodeHead(sizes.channels, num_classes, DROPOUT, norm=nn.BatchNorm2d, climb=by_doubling),
        background=1,
        align_corners=True,
        encoder=MovingImageEncoder(clip, blocks, precision),
        precision=precision,
    )
    for part in (model.pyramid, model.neck, model.head):
        part.to(memory_format=torch.channels_last)
    return model
