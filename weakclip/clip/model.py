"""Loading a CLIP: open_clip's network from a pretrained tag, a local file, or the mini CLIP of this repository."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import open_clip
import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from torch import Tensor

from weakclip.clip.mini import MEAN, MINI, STD, TEXT, build_mini_clip
from weakclip.clip.sources import find_source
from weakclip.downloads import clip_download
from weakclip.errors import WeakClipError, of_the_machine
from weakclip.torchscript_archive import read_tensors
from weakclip.weights import load_into, load_weights

RGB = tuple[float, float, float]
SHIPPED: Final = Path(__file__).parent.parent / "weights"


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A CLIP, frozen when it comes from a file of its own, and what has to be known to use it.

    ``weights_hash``: SHA-256 over names and bytes of all tensors. ``mean``, ``std``: of pixels in 0..1, RGB.
    ``patch``: side of a patch in pixels. ``context_length``: tokens a text may have.
    """

    model: str
    weights: str
    network: open_clip.CLIP
    tokenizer: open_clip.SimpleTokenizer
    weights_hash: str
    mean: RGB
    std: RGB

    @property
    def patch(self) -> int:
        """Side of a patch, pixels."""
        return int(self.network.visual.patch_size[0])

    @property
    def width(self) -> int:
        """Channels of a visual token."""
        return int(self.network.visual.transformer.width)

    @property
    def embedding(self) -> int:
        """Channels of the space that image and text share."""
        return int(self.network.visual.output_dim)

    @property
    def depth(self) -> int:
        """Number of transformer blocks of the image encoder."""
        return len(self.network.visual.transformer.resblocks)

    @property
    def context_length(self) -> int:
        """Tokens that a text may have."""
        return int(self.network.context_length)

    @property
    def frozen(self) -> bool:
        """Whether no parameter is trained."""
        return not any(parameter.requires_grad for parameter in self.network.parameters())


def load_clip(model: str, weights: str) -> Clip:
    """The CLIP named ``model`` (an open_clip name, or ``mini``) with ``weights`` (a tag, a file, or ``mini``), frozen.

    OpenAI's weights belong to the ``-quickgelu`` models; anything else with them is refused, since the features would be
    wrong without a sign of it.
    """
    if (model == MINI) != (weights == MINI):
        raise WeakClipError(
            f"clip.model {model} and clip.weights {weights} do not belong together", "set both to mini, or neither"
        )
    if model == MINI:
        network = build_mini_clip()
        state, _ = load_weights(SHIPPED, "mini_clip")
        load_into(network, state, "the mini CLIP")
        return mini_clip(network)
    network = _load_open_clip(model, weights)
    return _frozen(
        model=model,
        weights=weights,
        network=network,
        tokenizer=open_clip.get_tokenizer(model),
        mean=tuple(getattr(network.visual, "image_mean", None) or OPENAI_DATASET_MEAN),
        std=tuple(getattr(network.visual, "image_std", None) or OPENAI_DATASET_STD),
    )


def untrained_clip(model: str) -> Clip:
    """The network of that name with random weights: as fast as a trained one, and nothing is downloaded."""
    if model == MINI:
        return mini_clip(build_mini_clip())
    return _frozen(
        model=model,
        weights="random",
        network=open_clip.create_model(model),
        tokenizer=open_clip.get_tokenizer(model),
        mean=OPENAI_DATASET_MEAN,
        std=OPENAI_DATASET_STD,
    )


def mini_clip(network: open_clip.CLIP) -> Clip:
    """A network of `build_mini_clip`, frozen, with its tokenizer and normalisation."""
    tokenizer = open_clip.SimpleTokenizer(context_length=TEXT.context_length)
    return _frozen(model=MINI, weights=MINI, network=network, tokenizer=tokenizer, mean=MEAN, std=STD)


def _frozen(
    *, model: str, weights: str, network: open_clip.CLIP, tokenizer: open_clip.SimpleTokenizer, mean: RGB, std: RGB
) -> Clip:
    network.eval().requires_grad_(False)
    digest = hash_tensors(network.state_dict())
    return Clip(model=model, weights=weights, network=network, tokenizer=tokenizer, weights_hash=digest, mean=mean, std=std)


def load_same_clip(model: str, weights: str, weights_hash: str, used_for: str) -> Clip:
    """The CLIP that something was made with; other weights under the same name are refused."""
    clip = load_clip(model, weights)
    if clip.weights_hash != weights_hash:
        raise WeakClipError(
            f"{used_for} was made with other weights of {model} than {weights} holds now",
            "restore the weights it was made with, or make it anew: `dvc repro -f -s cache_features`, then `dvc repro`",
        )
    return clip


def hash_tensors(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names and bytes of the tensors, in the order of their names."""
    digest = hashlib.sha256()
    for key in sorted(state):
        digest.update(key.encode())
        digest.update(state[key].detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _load_open_clip(model: str, weights: str) -> open_clip.CLIP:
    source = find_source(model, weights)
    logging.getLogger().setLevel(logging.ERROR)
    try:
        if source.file is not None and source.archive:
            network = open_clip.create_model(model)
            stored = read_tensors(source.file)  # sizes and its attention mask among them, which the network makes itself
            load_into(network, {key: stored[key].float() for key in network.state_dict() if key in stored}, str(source.file))
            return network
        return open_clip.create_model(model, pretrained=str(source.file) if source.file else weights, weights_only=True)
    except WeakClipError:
        raise
    except Exception as error:  # open_clip and the download below it raise many kinds
        if of_the_machine(error):
            raise
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        if source.file is not None:
            raise WeakClipError(f"{source.file} cannot be loaded: {reason}", "download or copy it anew") from error
        missing = clip_download(model, weights).words
        raise WeakClipError(
            f"the pretrained weights {weights} of {model} cannot be loaded: {reason}",
            f"without a network, bring {missing}, put it in data/raw and set clip.weights to its path",
        ) from error
