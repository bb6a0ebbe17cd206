"""The CLIP inside a WeakCLIP of the released code: its weights, which have moved, come with the rest."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import open_clip
from open_clip.model import CLIPTextCfg, CLIPVisionCfg
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from weakclip.clip.model import Clip


@dataclass(frozen=True, kw_only=True)
class ClipArchitecture:
    """Sizes of a CLIP of OpenAI's kind: a vision transformer and a text transformer with QuickGELU.

    ``image_size``: side of the photos that the positions are for, pixels. ``context_length``: tokens of a text.
    """

    embedding: int
    patch: int
    image_size: int
    width: int
    layers: int
    heads: int
    context_length: int
    text_width: int
    text_layers: int
    text_heads: int

    def card(self) -> dict[str, object]:
        """Its values by name, for the card of the weights."""
        return asdict(self)


def bare_clip(architecture: ClipArchitecture, weights: str) -> Clip:
    """A CLIP of this architecture that is not frozen, whose tensors are to be loaded; ``weights`` says from where.

    It was trained on photos in ImageNet's normalisation.
    """
    a = architecture
    vision = CLIPVisionCfg(
        layers=a.layers, width=a.width, head_width=a.width // a.heads, patch_size=a.patch, image_size=a.image_size
    )
    text = CLIPTextCfg(context_length=a.context_length, width=a.text_width, heads=a.text_heads, layers=a.text_layers)
    return Clip(
        model="released",
        weights=weights,
        network=open_clip.CLIP(embed_dim=a.embedding, vision_cfg=vision, text_cfg=text, quick_gelu=True),
        tokenizer=open_clip.SimpleTokenizer(context_length=a.context_length),
        weights_hash="",
        mean=IMAGENET_DEFAULT_MEAN,
        std=IMAGENET_DEFAULT_STD,
    )
