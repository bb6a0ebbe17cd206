"""Checkpoints of WeakCLIP's released code (`iter_8000.pth` and the like), brought into this project's format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import Any, Final

from torch import Tensor

from weakclip.clip.bare import ClipArchitecture, bare_clip
from weakclip.datasets.index import ClassList
from weakclip.errors import WeakClipError
from weakclip.network.trained import save_weakclip
from weakclip.network.variants import build_variant
from weakclip.network.weakclip import WeakClipSizes, load_trainable
from weakclip.released.names import decoder_layers, rename_state
from weakclip.state_files import Imported, read_saved

VARIANT: Final = "published"
NOTED: Final = ("epoch", "iter", "seed", "exp_name", "mmcv_version", "mmseg_version")
"""What of a checkpoint's notes goes into the card, where it is text or a number."""


@dataclass(frozen=True, kw_only=True)
class Unwritten:
    """What a checkpoint does not say of its network; the values are those of the released code."""

    heads: int = 12
    text_heads: int = 8
    decoder_heads: int = 4
    blocks: tuple[int, ...] = (3, 5, 7, 11)


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """State dictionary and notes of a ``.pth`` file."""
    content = read_saved(path, "give the path of the downloaded .pth file")
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(content, dict) or not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise WeakClipError(f"{path} holds no state_dict", "a WeakCLIP checkpoint is a dictionary with meta and state_dict")
    meta = content.get("meta")
    return {str(name): value for name, value in state.items()}, meta if isinstance(meta, dict) else {}


def import_checkpoint(
    path: Path,
    classes: ClassList,
    folder: Path,
    unwritten: Unwritten = Unwritten(),
) -> Imported:
    """Writes the checkpoint as a trained WeakCLIP of the variant published into ``folder``.

    The file must have exactly the tensors of the network, as many classes as ``classes`` and, where its notes name them, the
    same ones in the same order.

    Raises:
        WeakClipError: names what is missing, unknown or misshapen, with the shapes expected and got.
    """
    state, meta = read_checkpoint(path)
    check_classes(path, state, meta, classes)
    renamed, unused, unknown = rename_state(state)
    if unknown:
        shown = ", ".join(unknown[:5]) + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else "")
        raise WeakClipError(
            f"{path} holds {shown}, which the released WeakCLIP does not have", "give a checkpoint of its released code"
        )
    architecture, sizes = sizes_of(path, state, unwritten)
    clip = bare_clip(architecture, path.name)
    network = build_variant(
        VARIANT, clip, blocks=unwritten.blocks, classes=classes, sizes=sizes, image_size=architecture.image_size
    )
    load_trainable(network.model, renamed, str(path))
    save_weakclip(
        folder,
        network.model,
        clip,
        variant=VARIANT,
        blocks=unwritten.blocks,
        image_size=architecture.image_size,
        sizes=sizes,
        classes=classes,
        architecture=architecture,
        source={"file": path.name} | {key: meta[key] for key in NOTED if isinstance(meta.get(key), str | int | float)},
    )
    return Imported(used=len(renamed), unused=tuple(unused))


def check_classes(path: Path, state: Mapping[str, Tensor], meta: Mapping[str, Any], classes: ClassList) -> None:
    """Raise WeakClipError where the checkpoint was trained on other classes than the list has."""
    weight = state.get("decode_head.conv_seg.weight")
    if weight is not None and len(weight) != classes.num_classes:
        raise WeakClipError(
            f"{path} has {len(weight)} classes, the list has {classes.num_classes} with the background",
            "give the list it was trained with: `--classes voc12` has 21, `--classes coco14` has 91",
        )
    stored = meta.get("CLASSES")
    if isinstance(stored, Sequence) and not isinstance(stored, str) and tuple(stored) != classes.with_background:
        pairs = zip(stored, classes.with_background, strict=False)
        differ = [f"{there} is {here} in the list" for there, here in pairs if there != here]
        shown = "; ".join(differ[:3]) or f"it names {len(stored)} of {classes.num_classes}"
        raise WeakClipError(
            f"{path} was trained with other classes: {shown}", "give the list it was trained with, in its order"
        )


def sizes_of(path: Path, state: Mapping[str, Tensor], unwritten: Unwritten) -> tuple[ClipArchitecture, WeakClipSizes]:
    """What the shapes of the tensors say of the network."""
    try:
        patches, text = state["backbone.conv1.weight"], state["text_encoder.positional_embedding"]
        grid = isqrt(len(state["backbone.positional_embedding"]) - 1)
        architecture = ClipArchitecture(
            embedding=state["backbone.proj"].shape[1],
            patch=patches.shape[2],
            image_size=grid * patches.shape[2],
            width=patches.shape[0],
            layers=blocks_of(state, "backbone."),
            heads=unwritten.heads,
            context_length=text.shape[0],
            text_width=text.shape[1],
            text_layers=blocks_of(state, "text_encoder."),
            text_heads=unwritten.text_heads,
        )
        sizes = WeakClipSizes(
            context_length=state["contexts"].shape[1],
            pyramid_adapter=True,
            co_attention=True,
            decoder_width=state["context_decoder.text_proj.1.weight"].shape[0],
            decoder_layers=decoder_layers(state),
            decoder_heads=unwritten.decoder_heads,
            channels=state["decode_head.conv_seg.weight"].shape[1],
        )
    except (KeyError, IndexError) as error:
        raise WeakClipError(
            f"{path} is no checkpoint of WeakCLIP: {error} is missing or misshapen", "give a checkpoint of its released code"
        ) from error
    return architecture, sizes


def blocks_of(state: Mapping[str, Tensor], prefix: str) -> int:
    """Number of transformer blocks whose parameters begin with ``prefix``."""
    start = f"{prefix}transformer.resblocks."
    return 1 + max(int(name.removeprefix(start).split(".")[0]) for name in state if name.startswith(start))
