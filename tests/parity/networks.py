"""Networks of the parity cases: a checkpoint as the released code would write it, imported and loaded as any user's."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tests.parity.cases import Case, folder, weights
from weakclip.datasets.index import ClassList
from weakclip.network.trained import TrainedWeakClip, load_weakclip
from weakclip.released.checkpoint import Unwritten, import_checkpoint


@cache
def manifest(name: str) -> dict[str, Any]:
    """The description of a network: configuration, names and shapes."""
    content: dict[str, Any] = json.loads((folder() / name).read_text(encoding="utf-8"))
    return content


def config(case: Case) -> dict[str, Any]:
    """The network's configuration in the words of the released code."""
    found: dict[str, Any] = manifest(case["manifest"])["model_cfg"]
    return found


def classes(case: Case) -> ClassList:
    names = tuple(config(case)["class_names"])
    return ClassList(names=names[1:], synonyms=((),) * (len(names) - 1), background_words=())


def unwritten(configuration: Mapping[str, Any]) -> Unwritten:
    """What the configuration says and a state dictionary does not; the released code's defaults for the rest."""
    backbone, usual = configuration["backbone"], Unwritten()
    return Unwritten(
        heads=backbone.get("heads", usual.heads),
        text_heads=configuration["text_encoder"].get("transformer_heads", usual.text_heads),
        decoder_heads=configuration["context_decoder"].get("transformer_heads", usual.decoder_heads),
        blocks=tuple(backbone.get("out_indices", usual.blocks)),
    )


def window_and_stride(case: Case) -> tuple[int, int]:
    """Sides of the sliding windows, which are square here as in every released configuration."""
    test = config(case)["test_cfg"]
    (window, width), (stride, across) = test["crop_size"], test["stride"]
    assert (window, stride) == (width, across), "windows that are not square"
    return window, stride


def released_state(name: str, seed: int) -> dict[str, Tensor]:
    """Every tensor of the manifest, under its released name."""
    return {
        key: torch.from_numpy(weights().fill(key, shape, seed)).to(getattr(torch, dtype))
        for key, (shape, dtype) in manifest(name)["keys"].items()
    }


def write_checkpoint(path: Path, state: Mapping[str, Tensor], class_names: list[str]) -> None:
    """A file of the released code's kind."""
    meta = {"CLASSES": tuple(class_names), "PALETTE": [[0, 0, 0]] * len(class_names), "iter": 8000, "config": "model = dict()"}
    torch.save({"meta": meta, "state_dict": dict(state), "optimizer": {"state": {}, "param_groups": []}}, path)


@cache
def _imported(name: str, seed: int) -> Path:
    scratch = Path(tempfile.mkdtemp(prefix="weakclip-parity-"))
    atexit.register(shutil.rmtree, scratch, ignore_errors=True)
    case = Case("network", "", {"manifest": name})
    write_checkpoint(scratch / "iter_8000.pth", released_state(name, seed), config(case)["class_names"])
    import_checkpoint(scratch / "iter_8000.pth", classes(case), scratch / "weakclip", unwritten(config(case)))
    (scratch / "iter_8000.pth").unlink()
    return scratch / "weakclip"


def imported(case: Case) -> Path:
    """The folder with the case's network, imported from a checkpoint."""
    return _imported(case["manifest"], case["seed"])


def load_network(case: Case) -> TrainedWeakClip:
    """A fresh copy of the case's network, from a checkpoint that was imported."""
    return load_weakclip(imported(case))


def make_input(entry: Mapping[str, Any], seed: int) -> NDArray[Any]:
    """An input by its kind (``image`` or ``photo_like``), tag and shape."""
    made: NDArray[Any] = getattr(weights(), entry["kind"])(entry["tag"], entry["shape"], seed)
    return made


def as_pixels(network: TrainedWeakClip, normalised: NDArray[np.float32]) -> Tensor:
    """Normalised images (B, 3, H, W) in the pixels, 0..255, that the network takes."""
    return torch.from_numpy(normalised) * network.encoder.std + network.encoder.mean
