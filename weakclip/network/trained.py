"""A trained WeakCLIP from its folder, with the encoder it was trained with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weakclip.clip.image_encoder import ImageEncoder
from weakclip.clip.model import Clip, load_same_clip
from weakclip.datasets.index import ClassList
from weakclip.errors import WeakClipError
from weakclip.features.store import FeatureStore
from weakclip.network.weakclip import WeakClip, WeakClipSizes, build_weakclip, load_trainable
from weakclip.weights import load_weights, save_weights

NAME = "weakclip"


@dataclass(frozen=True, kw_only=True)
class TrainedWeakClip:
    """``image_size``: side of the views it was trained on, and of sliding windows, pixels."""

    model: WeakClip
    encoder: ImageEncoder
    classes: ClassList
    image_size: int
    weights_sha256: str


def save_weakclip(
    folder: Path, model: WeakClip, clip: Clip, store: FeatureStore, sizes: WeakClipSizes, classes: ClassList, variant: str
) -> None:
    """Writes the trained part and a card with all that `load_weakclip` needs, and with what no other encoder agrees."""
    card = {
        "kind": NAME,
        "variant": variant,
        "classes": list(classes.names),
        "synonyms": [list(others) for others in classes.synonyms],
        "background_words": list(classes.background_words),
        "model": clip.model,
        "weights": clip.weights,
        "weights_hash": clip.weights_hash,
        "mean": list(clip.mean),
        "std": list(clip.std),
        "blocks": list(store.blocks),
        "image_size": store.attributes["image_size"],
        "sizes": sizes.card(),
    }
    save_weights(folder, NAME, model.trainable_state(), card)


def load_weakclip(folder: Path) -> TrainedWeakClip:
    """The network as `save_weakclip` left it; refuses another encoder, other shapes or another kind of file by name."""
    state, stored = load_weights(folder, NAME)
    card: dict[str, Any] = stored
    if card.get("kind") != NAME:
        raise WeakClipError(f"{folder / NAME}.json is not the card of a WeakCLIP", "run `dvc repro train_weakclip`")
    clip = load_same_clip(card["model"], card["weights"], card["weights_hash"], str(folder))
    classes = ClassList(
        names=tuple(card["classes"]),
        synonyms=tuple(tuple(others) for others in card["synonyms"]),
        background_words=tuple(card["background_words"]),
    )
    model = build_weakclip(
        clip,
        class_names=classes.names,
        synonyms=classes.synonyms,
        background_words=classes.background_words,
        sizes=WeakClipSizes(**card["sizes"]),
    )
    load_trainable(model, state, str(folder))
    return TrainedWeakClip(
        model=model.eval(),
        encoder=ImageEncoder(clip, card["blocks"]),
        classes=classes,
        image_size=card["image_size"],
        weights_sha256=str(card["weights_sha256"]),
    )
