"""Networks that were not trained, saved as stages save theirs."""

from pathlib import Path

from weakclip.clip.model import load_clip
from weakclip.datasets.index import ClassList
from weakclip.network.trained import save_weakclip
from weakclip.network.variants import build_variant
from weakclip.network.weakclip import WeakClipSizes

SIZES = WeakClipSizes(
    context_length=2, pyramid_adapter=True, co_attention=True, decoder_width=16, decoder_layers=1, decoder_heads=2, channels=8
)
BLOCKS = (1, 3, 4)


def save_untrained_weakclip(folder: Path, classes: ClassList, variant: str = "repaired", image_size: int = 64) -> None:
    """A small WeakCLIP on the mini CLIP."""
    clip = load_clip("mini", "mini")
    model = build_variant(variant, clip, blocks=BLOCKS, classes=classes, sizes=SIZES, image_size=image_size).model
    save_weakclip(folder, model, clip, variant=variant, blocks=BLOCKS, image_size=image_size, sizes=SIZES, classes=classes)
