"""Vision transformers of timm (DINOv2, EVA-02, DINOv3, DeiT, plain ViT) as makers of maps of tokens, for photos of any size.

Used under the retraining decoder and as a second frozen encoder.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import timm
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import is_model_in_modules
from torch import Tensor, nn

from weakclip.downloads import encoder_download
from weakclip.errors import WeakClipError
from weakclip.state_files import read_state
from weakclip.weights import load_into

RGB = tuple[float, float, float]
MODULES: Final = {"vision_transformer", "eva", "deit"}  # of timm, whose networks resample their positions to the photo


class VisionTransformer(nn.Module):
    """A network of timm without its classifier and its last norm, which belong to the task it was trained on.

    ``patch``: side of its square patches in pixels. ``width``: channels of a token. ``depth``: its number of blocks.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        height, width = model.patch_embed.patch_size
        if height != width:
            raise ValueError(f"its patches are {height} x {width} pixels, not square")
        for pooled in ("norm", "fc_norm"):
            if hasattr(model, pooled):
                setattr(model, pooled, nn.Identity())
        self.model = model
        self.patch: int = height
        self.width: int = model.embed_dim
        self.depth: int = len(model.blocks)

    def forward(self, photos: Tensor, blocks: Sequence[int]) -> list[Tensor]:
        """The maps behind some blocks, counted from 0: normalised photos (B, 3, H, W) -> (B, width, H / patch, W / patch)."""
        maps: list[Tensor] = self.model.forward_intermediates(photos, indices=list(blocks), intermediates_only=True)
        return maps


def is_vision_transformer(name: str) -> bool:
    """Whether timm's network of this name is one that `build_vision_transformer` can make."""
    return is_model_in_modules(name, MODULES)


def check_name(name: str, parameter: str) -> None:
    """Raises `WeakClipError` with the nearest names where timm has no such network. ``parameter``: what named it."""
    if timm.is_model(name):
        return
    near = ", ".join(timm.list_models(f"*{name}*")[:4])
    hint = f"timm has {near}" if near else "`python -c 'import timm; print(timm.list_models())'` prints the names"
    raise WeakClipError(f"{parameter} {name!r} is not a model of timm", hint)


def build_vision_transformer(name: str, *, pretrained: bool, parameter: str, weights_parameter: str) -> VisionTransformer:
    """timm's network, with its pretrained weights or with random ones from torch's generator.

    Raises:
        WeakClipError: timm has no vision transformer of this name, or its weights cannot be fetched. ``parameter`` and
            ``weights_parameter``: what names it and a file of its weights, for the message.
    """
    check_name(name, parameter)
    if not is_vision_transformer(name):
        hint = "choose one such as vit_small_patch14_dinov2 or eva02_small_patch14_336"
        raise WeakClipError(f"{parameter} {name!r} is not a plain vision transformer", hint)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # timm warns of keys it drops, such as the classifier
            return VisionTransformer(timm.create_model(name, pretrained=pretrained, num_classes=0, dynamic_img_size=True))
    except (ValueError, RuntimeError, AttributeError, AssertionError, KeyError, TypeError) as error:
        problem = f"{parameter} {name!r} does not take photos of any size: {str(error).splitlines()[0]}"
        raise WeakClipError(problem, "choose one such as vit_small_patch14_dinov2 or eva02_small_patch14_336") from error
    except OSError as error:
        raise cannot_fetch(name, weights_parameter, error) from error


def cannot_fetch(name: str, parameter: str, error: OSError) -> WeakClipError:
    """What to say when timm's weights cannot be downloaded. ``parameter``: what may name a file instead."""
    reason = next(iter(str(error).splitlines()), "") or type(error).__name__
    return WeakClipError(
        f"the weights of {name!r} cannot be fetched: {reason}",
        f"without a network, bring {encoder_download(name).words}, put it in data/raw and set {parameter} to its path",
    )


def load_vision_transformer(network: VisionTransformer, path: Path, parameter: str) -> None:
    """Fills it from a file of timm's or of the authors' names; positions and patches of another size are resampled.

    Raises:
        WeakClipError: the file is missing or damaged; names the first keys that are missing or have another shape.
    """
    state = read_state(path, parameter)
    convert = sys.modules[type(network.model).__module__].__dict__["checkpoint_filter_fn"]
    try:
        converted: Mapping[str, Tensor] = convert(state, network.model)
    except (KeyError, RuntimeError, ValueError, AttributeError) as error:
        problem = f"{path} does not fit the network: {str(error).splitlines()[0]}"
        raise WeakClipError(problem, f"give {parameter} a file of the network that is named beside it") from error
    own = network.model.state_dict()
    load_into(network.model, {key: converted[key] for key in own if key in converted}, str(path))


def mean_and_deviation(name: str) -> tuple[RGB, RGB]:
    """Of the RGB pixels (0..1) that timm's network of this name expects."""
    config = timm.get_pretrained_cfg(name)
    mean, std = (config.mean, config.std) if config else (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
    return (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])
