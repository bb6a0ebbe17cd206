"""Weights on disk: a safetensors file, and beside it a JSON card of what they are.

The card carries what a consumer has to agree with (classes, encoder hash, normalisation, blocks), so that weights are
never used with something else than they were trained with.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as encode_safetensors
from torch import Tensor, nn

from weakclip.disk_space import write_whole
from weakclip.errors import WeakClipError
from weakclip.sealed import sealed, unsealed


def save_weights(folder: Path, name: str, state: Mapping[str, Tensor], card: Mapping[str, object]) -> None:
    """Writes ``name.safetensors`` and ``name.json``; same tensors and card, same bytes.

    The card gains ``weights_sha256`` and a checksum of its own, which `load_weights` checks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data = encode_safetensors({key: state[key].detach().cpu().contiguous() for key in sorted(state)})
    text = json.dumps(sealed({**card, "weights_sha256": hashlib.sha256(data).hexdigest()}), indent=2) + "\n"
    write_whole(folder / f"{name}.safetensors", data, sync=True)
    write_whole(folder / f"{name}.json", text.encode(), sync=True)


def load_weights(folder: Path, name: str) -> tuple[dict[str, Tensor], dict[str, object]]:
    """The tensors and the card of ``folder/name``; refuses missing or damaged files by name."""
    weights, card_file = folder / f"{name}.safetensors", folder / f"{name}.json"
    for path in (weights, card_file):
        if not path.is_file():
            raise WeakClipError(
                f"{path} is missing", "run the stage that writes it: `dvc repro`, or `dvc checkout` to restore it"
            )
    data = weights.read_bytes()
    try:
        card = unsealed(card_file.read_bytes())
    except ValueError as error:
        raise WeakClipError(
            f"{card_file} is damaged: {error}", "restore it with `dvc checkout`, or run its stage again"
        ) from error
    if card.get("weights_sha256") != hashlib.sha256(data).hexdigest():
        raise WeakClipError(
            f"{weights} is damaged or does not belong to {card_file.name}",
            "restore both with `dvc checkout`, or run their stage again",
        )
    try:
        return parse_safetensors(data), card
    except SafetensorError as error:
        raise WeakClipError(f"{weights} is no safetensors file: {error}", "run its stage again") from error


def load_into(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Loads every tensor into the module; a missing, foreign or misshapen one is named.

    Float tensors are cast to the module's own type, so weights may be stored in float16.
    """
    own = module.state_dict()
    problems = [f"{key} is missing" for key in own if key not in state]
    problems += [f"{key} is not part of the network" for key in state if key not in own]
    problems += [
        f"{key}: expected {tuple(own[key].shape)}, got {tuple(state[key].shape)}"
        for key in own
        if key in state and own[key].shape != state[key].shape
    ]
    if problems:
        shown = "; ".join(problems[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
        raise WeakClipError(
            f"{source} does not fit the network: {shown}", "use the parameters it was trained with, or train again"
        )
    with torch.no_grad():
        module.load_state_dict({key: value.to(own[key].dtype) for key, value in state.items()})
