"""Where a CLIP's weights come from, checked before any of them is loaded: model, tag or file, and the activation they need."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import open_clip

from weakclip.errors import WeakClipError

FILE_ENDINGS: Final = frozenset((".pt", ".pth", ".bin", ".safetensors"))


@dataclass(frozen=True, kw_only=True)
class Source:
    """``file``: on the disk, None for a pretrained tag. ``archive``: whether the file is one as OpenAI ships its weights."""

    file: Path | None
    archive: bool


def find_source(model: str, weights: str) -> Source:
    """The source of ``weights`` (a tag or a file) for open_clip's ``model``.

    Raises WeakClipError where there is none, and where the weights were trained with QuickGELU and the model has none: the
    features would be wrong without a sign of it.
    """
    check_model(model)
    path = Path(weights)
    if path.suffix in FILE_ENDINGS or path.is_file():
        if not path.is_file():
            raise WeakClipError(
                f"clip.weights {weights} is missing",
                "put the file there, or set clip.weights to a pretrained tag such as openai",
            )
        archive = is_torchscript(path)
        if archive and not model.endswith("-quickgelu"):
            raise WeakClipError(f"OpenAI's weights need QuickGELU, {model} has none", f"set clip.model to {model}-quickgelu")
        return Source(file=path, archive=archive)
    needs_quickgelu = open_clip.get_pretrained_cfg(model, weights).get("quick_gelu") or weights == "openai"
    if needs_quickgelu and not model.endswith("-quickgelu"):
        owner = "OpenAI's weights" if weights == "openai" else f"the weights {weights}"
        raise WeakClipError(f"{owner} need QuickGELU, {model} has none", f"set clip.model to {model}-quickgelu")
    tags = open_clip.list_pretrained_tags_by_model(model)
    if weights not in tags:
        raise WeakClipError(
            f"clip.weights {weights} is neither a file nor a pretrained tag of {model}", f"tags: {', '.join(tags) or 'none'}"
        )
    return Source(file=None, archive=False)


def check_model(model: str) -> None:
    """Refuse what is not one of open_clip's plain vision transformers."""
    if model not in open_clip.list_models():
        near = [name for name in open_clip.list_models() if name.lower().startswith(model.lower()[:5])]
        raise WeakClipError(
            f"clip.model {model} is not an open_clip model", f"such as {', '.join(near[:4]) or 'ViT-B-16-quickgelu'}"
        )
    config = open_clip.get_model_config(model) or {}
    if "timm_model_name" in config.get("vision_cfg", {}) or not isinstance(config.get("vision_cfg", {}).get("layers"), int):
        raise WeakClipError(
            f"clip.model {model} is not a plain vision transformer", "choose a ViT of open_clip, such as ViT-B-16-quickgelu"
        )
    if {"hf_model_name", "hf_tokenizer_name"} & config.get("text_cfg", {}).keys():
        # Its tokenizer would be downloaded, even where the weights are a file.
        raise WeakClipError(
            f"clip.model {model} reads texts with a tokenizer that is not open_clip's own",
            "choose a ViT of open_clip, such as ViT-B-16-quickgelu",
        )


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive, as OpenAI ships its weights."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())
