"""The two sizes that networks are measured at, with the values of the presets that belong to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

import weakclip
from weakclip.clip.image_encoder import ImageEncoder
from weakclip.clip.model import Clip, load_clip, untrained_clip
from weakclip.datasets import voc12
from weakclip.datasets.index import ClassList
from weakclip.datasets.mini_dataset import CLASSES as MINI_CLASSES
from weakclip.network.weakclip import WeakClipSizes
from weakclip.params import Params, load
from weakclip.seeding import seed_torch

PRESETS: Final = Path(weakclip.__file__).parent / "presets"


@dataclass(frozen=True, kw_only=True)
class Size:
    """``photo``: height and width of the sample photos. ``batch_size``: images in a training step."""

    name: str
    preset: str
    classes: ClassList
    photo: tuple[int, int]
    batch_size: int

    def params(self) -> Params:
        return load(PRESETS / f"{self.preset}.yaml")

    def clip(self) -> Clip:
        """The CLIP of the preset; at full size with random weights, which take as long as trained ones."""
        p = self.params().clip
        if p.weights == "mini":
            return load_clip(p.model, p.weights)
        seed_torch("benchmark clip")
        return untrained_clip(p.model)

    def sizes(self) -> WeakClipSizes:
        return WeakClipSizes(**self.params().weakclip.model_dump(include=set(WeakClipSizes.__dataclass_fields__)))


MINI: Final = Size(name="mini", preset="mini", classes=MINI_CLASSES, photo=(96, 128), batch_size=16)
FULL: Final = Size(name="full", preset="voc12", classes=voc12.CLASSES, photo=(375, 500), batch_size=2)
LARGE_BATCH: Final = replace(FULL, name="full_batch_16", batch_size=16)
SIZES: Final = {size.name: size for size in (MINI, FULL, LARGE_BATCH)}


class RandomEncoder:
    """Stands in for an image encoder where only the stored tokens are needed, not what they say: random numbers."""

    def __init__(self, encoder: ImageEncoder) -> None:
        self.patch, self.width, self.blocks = encoder.patch, encoder.width, encoder.blocks
        self.attributes: Mapping[str, object] = encoder.attributes

    def __call__(self, images: Tensor) -> Sequence[Tensor]:
        height, width = (side // self.patch for side in images.shape[2:])
        return [torch.randn(len(images), 1 + height * width, self.width) for _ in self.blocks]
