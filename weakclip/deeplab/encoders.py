"""Encoders of the segmentation network: any of timm's, and a mini one that fits photos of 128 px and a CPU.

A convolutional encoder maps (B, 3, H, W) to a list of maps whose strides double from 1 on, the input itself first; maps behind
the output stride keep its size and are dilated instead. Vision transformers: `weakclip.deeplab.transformer`.
"""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import segmentation_models_pytorch as smp
import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from weakclip.deeplab.network import RGB
from weakclip.deeplab.transformer import TransformerEncoder, check_stride
from weakclip.errors import WeakClipError
from weakclip.mini_encoder import MiniEncoder
from weakclip.state_files import read_state
from weakclip.timm_vit import (
    build_vision_transformer,
    cannot_fetch,
    check_name,
    is_vision_transformer,
    load_vision_transformer,
    mean_and_deviation,
)
from weakclip.weights import load_into, load_weights

MINI: Final = "mini"
WEIGHTS_FOLDER: Final = Path(__file__).parents[1] / "weights"
MINI_WEIGHTS: Final = "mini_encoder"


@dataclass(frozen=True)
class Encoder:
    """A network, the channels of its maps, and mean and deviation of the RGB pixels (0..1) it expects.

    ``multiple``: what the sides of photos must be multiples of.
    """

    network: nn.Module
    channels: tuple[int, ...]
    mean: RGB
    std: RGB
    multiple: int


def build_encoder(encoder: str, weights: str, output_stride: int) -> Encoder:
    """An encoder with its weights.

    ``encoder``: timm's name or ``mini``. ``weights``: ``mini`` (those of the project), ``timm`` (timm's pretrained ones),
    ``none``, or a file of timm's names and shapes: ``.safetensors``, or what `torch.save` wrote of a state dictionary.
    """
    if encoder == MINI:
        network = MiniEncoder(output_stride)
        chosen = Encoder(network, MiniEncoder.out_channels, IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, output_stride)
    elif is_vision_transformer(encoder):
        chosen = _transformer(encoder, pretrained=weights == "timm", output_stride=output_stride)
    else:
        chosen = _convolutional(encoder, pretrained=weights == "timm", output_stride=output_stride)
    file = weights_file(weights)
    if weights == MINI:
        state, _ = load_weights(WEIGHTS_FOLDER, MINI_WEIGHTS)
        load_into(chosen.network, state, str(file))
    elif file is not None and isinstance(chosen.network, TransformerEncoder):
        load_vision_transformer(chosen.network.network, file, "deeplab.encoder_weights")
    elif file is not None:
        load_file_into(chosen.network, file)
    return chosen


def weights_file(weights: str) -> Path | None:
    """The file that these weights are read from; None for ``timm`` and ``none``. Raises `WeakClipError` where there is none."""
    if weights in ("timm", "none"):
        return None
    file = WEIGHTS_FOLDER / f"{MINI_WEIGHTS}.safetensors" if weights == MINI else Path(weights)
    if not file.is_file():
        raise WeakClipError(f"deeplab.encoder_weights {weights} is no file", f"give a file, timm, none or {MINI}")
    return file


def weights_source(weights: str) -> dict[str, str]:
    """What to note about the weights an encoder started from: their name, and for files their SHA-256."""
    file = weights_file(weights)
    if file is None:
        return {"name": weights}
    return {"name": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}


def load_file_into(encoder: nn.Module, path: Path) -> None:
    """Fills the encoder from a file of a whole timm network; what the encoder does not have, such as a classifier, is left.

    Raises:
        WeakClipError: the file is missing or damaged; names the first keys that are missing or have another shape.
    """
    state = read_state(path)
    found: dict[str, Tensor] = {}
    for key in encoder.state_dict():
        # timm joins the names of unpacked stages by an underscore (blocks_0), whole networks by a dot (blocks.0).
        spellings = (key, short := key.removeprefix("model."), _dotted(short))
        found.update((key, state[spelling]) for spelling in spellings if spelling in state)
        if key.endswith("num_batches_tracked"):  # older files lack this counter, which no forward pass reads
            found.setdefault(key, torch.tensor(0))
    load_into(encoder, found, str(path))


def _dotted(key: str) -> str:
    head, dot, rest = key.partition(".")
    name, underscore, number = head.rpartition("_")
    return f"{name}.{number}{dot}{rest}" if underscore and number.isdigit() else key


def _transformer(name: str, *, pretrained: bool, output_stride: int) -> Encoder:
    network = build_vision_transformer(
        name, pretrained=pretrained, parameter="deeplab.encoder", weights_parameter="deeplab.encoder_weights"
    )
    check_stride(name, network.patch, output_stride)
    return Encoder(TransformerEncoder(network), (3, network.width, network.width), *mean_and_deviation(name), network.patch)


def _convolutional(name: str, *, pretrained: bool, output_stride: int) -> Encoder:
    check_name(name, "deeplab.encoder")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # timm warns of keys it drops, such as the classifier
            network = smp.encoders.get_encoder(f"tu-{name}", depth=5, weights=pretrained or None, output_stride=output_stride)
    except (ValueError, RuntimeError, AttributeError, AssertionError, KeyError, TypeError) as error:
        problem = f"deeplab.encoder {name!r} does not work as an encoder of output stride {output_stride}: {error}"
        hint = "choose a convolutional network with maps at strides 2 or 4 to 32, such as resnet50, or a vision transformer"
        raise WeakClipError(problem, hint) from error
    except OSError as error:
        raise cannot_fetch(name, "deeplab.encoder_weights", error) from error
    return Encoder(network, tuple(network.out_channels), *mean_and_deviation(name), output_stride)
