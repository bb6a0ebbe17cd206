"""The variants of WeakCLIP put together: the network, its encoder, and how photos come to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from weakclip.clip.image_encoder import ImageEncoder
from weakclip.clip.model import Clip
from weakclip.datasets.index import ClassList
from weakclip.images import Resize, resize_photo
from weakclip.network.published import build_published, start_from_clip
from weakclip.network.weakclip import WeakClip, WeakClipSizes, build_weakclip
from weakclip.resampling import resize_without_antialias
from weakclip.second_encoder import EncoderPair, SecondEncoder, paired


@dataclass(frozen=True, kw_only=True)
class Network:
    """``multiple``: sides of a resized photo are multiples of this. ``resize``: how photos are resized for the network."""

    model: WeakClip
    encoder: ImageEncoder | EncoderPair
    multiple: int
    resize: Resize


def build_variant(
    variant: str,
    clip: Clip,
    *,
    blocks: Sequence[int],
    classes: ClassList,
    sizes: WeakClipSizes,
    image_size: int,
    precision: str = "float32",
    second: SecondEncoder | None = None,
    recompute: bool = False,
) -> Network:
    """``variant``: repaired or published. ``image_size``: side of training views and windows, pixels. ``precision``: what it
    computes in, float32 or bfloat16. ``second``: a second frozen encoder, for the repaired variant. ``recompute``: see
    `WeakClip`, for the repaired variant.

    Published starts from a copy of a frozen CLIP; one that is not frozen becomes its own.
    """
    if variant == "published":
        moving = start_from_clip(clip, image_size, sizes.context_length) if clip.frozen else clip
        model = build_published(moving, blocks=blocks, class_names=classes.names, sizes=sizes, precision=precision)
        if model.encoder is None:
            raise ValueError("expected a network with an encoder of its own")
        # Photos of any size: what they have beyond the last patch is stretched over.
        return Network(model=model, encoder=model.encoder, multiple=1, resize=resize_without_antialias)
    model = build_weakclip(
        clip,
        class_names=classes.names,
        synonyms=classes.synonyms,
        background_words=classes.background_words,
        sizes=sizes,
        precision=precision,
        second_width=0 if second is None else second.width,
        recompute=recompute,
    )
    encoder = paired(ImageEncoder(clip, blocks, precision), second)
    return Network(model=model, encoder=encoder, multiple=clip.patch, resize=resize_photo)
