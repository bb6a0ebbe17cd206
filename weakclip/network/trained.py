"""A trained WeakCLIP from its folder, with the encoder it was trained with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weakclip.clip.bare import ClipArchitecture, bare_clip
from weakclip.clip.model import Clip, load_same_clip
from weakclip.datasets.index import ClassList
from weakclip.errors import WeakClipError
from weakclip.network.variants import Network, build_variant
from weakclip.network.weakclip import WeakClip, WeakClipSizes, load_trainable
from weakclip.second_encoder import SecondEncoder, load_same_second_encoder
from weakclip.weights import load_weights, save_weights

NAME = "weakclip"


@dataclass(frozen=True, kw_only=True)
class TrainedWeakClip(Network):
    """``image_size``: side of the views it was trained on, and of sliding windows, pixels."""

    classes: ClassList
    image_size: int
    weights_sha256: str

    def rows_of(self, classes: ClassList) -> list[int] | None:
        """Which of the network's probabilities are these classes, by name, background first; None where all are, in order.

        Raises:
            WeakClipError: names classes that the network does not know.
        """
        if classes.names == self.classes.names:
            return None
        places = {name: place for place, name in enumerate(self.classes.with_background)}
        unknown = [name for name in classes.names if name not in places]
        if unknown:
            raise WeakClipError(
                f"the WeakCLIP does not know {', '.join(unknown[:5])}" + (" and more" if len(unknown) > 5 else ""),
                "train it on this data set: `dvc repro train_weakclip`, or import one that was trained on its classes",
            )
        return [places[name] for name in classes.with_background]


def save_weakclip(
    folder: Path,
    model: WeakClip,
    clip: Clip,
    *,
    variant: str,
    blocks: Sequence[int],
    image_size: int,
    sizes: WeakClipSizes,
    classes: ClassList,
    architecture: ClipArchitecture | None = None,
    source: Mapping[str, object] | None = None,
    second: SecondEncoder | None = None,
) -> None:
    """Writes the trained part and a card with all that `load_weakclip` needs, and with what no other encoder agrees.

    ``clip``: what it was trained from. ``architecture``: of a CLIP that is all in the trained part, where no other weights are
    there to start from. ``source``: where imported weights come from. ``second``: the second encoder it was trained with.
    """
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
        "blocks": list(blocks),
        "image_size": image_size,
        "sizes": sizes.card(),
    }
    if architecture is not None:
        card["architecture"] = architecture.card()
    if second is not None:
        card["second"] = second.described
    if source is not None:
        card["source"] = dict(source)
    save_weights(folder, NAME, model.trainable_state(), card)


def load_weakclip(folder: Path, precision: str = "float32") -> TrainedWeakClip:
    """The network as `save_weakclip` left it, to compute in ``precision``; refuses another encoder, other shapes or another
    kind of file by name."""
    state, stored = load_weights(folder, NAME)
    card: dict[str, Any] = stored
    if card.get("kind") != NAME:
        raise WeakClipError(f"{folder / NAME}.json is not the card of a WeakCLIP", "run `dvc repro train_weakclip`")
    if "architecture" in card:
        clip = bare_clip(ClipArchitecture(**card["architecture"]), card["weights"])
    else:
        clip = load_same_clip(card["model"], card["weights"], card["weights_hash"], str(folder))
    classes = ClassList(
        names=tuple(card["classes"]),
        synonyms=tuple(tuple(others) for others in card["synonyms"]),
        background_words=tuple(card["background_words"]),
    )
    network = build_variant(
        card["variant"],
        clip,
        blocks=card["blocks"],
        classes=classes,
        sizes=WeakClipSizes(**card["sizes"]),
        image_size=card["image_size"],
        precision=precision,
        second=load_same_second_encoder(card.get("second"), str(folder)),
    )
    load_trainable(network.model, state, str(folder))
    return TrainedWeakClip(
        model=network.model.eval(),
        encoder=network.encoder,
        multiple=network.multiple,
        resize=network.resize,
        classes=classes,
        image_size=card["image_size"],
        weights_sha256=str(card["weights_sha256"]),
    )
