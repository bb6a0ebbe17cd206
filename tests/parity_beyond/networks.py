"""The network of the parity cases: a small CLIP whose tensors are made from their names, as the folder describes it."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.parity_beyond.cases import Case, manifest, weights
from weakclip.clip.bare import ClipArchitecture, bare_clip
from weakclip.clip.image_encoder import ImageEncoder, resize_positions
from weakclip.clip.model import Clip
from weakclip.weights import load_into


@cache
def _clip(name: str) -> Clip:
    described = manifest(Case("network", "", {"manifest": name}))
    sizes, seed = described["clip"], described["seed"]
    architecture = ClipArchitecture(
        embedding=sizes["embed"],
        patch=sizes["patch"],
        image_size=sizes["grid"] * sizes["patch"],
        width=sizes["vision_width"],
        layers=sizes["vision_layers"],
        heads=sizes["vision_heads"],
        context_length=sizes["context_length"],
        text_width=sizes["text_width"],
        text_layers=sizes["text_layers"],
        text_heads=sizes["text_heads"],
    )
    clip = bare_clip(architecture, "parity")
    state = {
        key: torch.from_numpy(weights().fill(f"clip:{key}", shape, seed)).half().float()
        for key, shape in described["keys"].items()
    }
    state["logit_scale"] = torch.tensor(float(described["logit_scale"]))
    for key, probe in described["weight_probe"].items():
        assert state[key].flatten()[: len(probe)].tolist() == probe, key
    own = clip.network.state_dict()
    load_into(
        clip.network, {**{key: own[key] for key in own.keys() - state.keys()}, **state}, "the network of the parity cases"
    )
    clip.network.eval().requires_grad_(False)
    return clip


def load_network(case: Case) -> Clip:
    """The CLIP that the case's manifest describes."""
    return _clip(case["manifest"])


class ReleasedEncoder(ImageEncoder):
    """Positions as the released code resizes them: bilinear without antialias, and in CLIP-ES rounded to float16."""

    half_positions = False

    def positions(self, size: tuple[int, int]) -> Tensor:
        visual = self.visual
        resized = resize_positions(visual.positional_embedding, visual.grid_size, size, mode="bilinear", antialias=False)
        return resized.half().float() if self.half_positions else resized

    @torch.no_grad()
    def entering_all(self, normalised: Tensor) -> list[Tensor]:
        """The tokens (B, 1 + n, C) that enter each block, and last those that leave the last one."""
        found = [self.embed(normalised)]
        for block in self.visual.transformer.resblocks:
            found.append(block(found[-1]))
        return found


def released_encoder(case: Case, *, half_positions: bool) -> ReleasedEncoder:
    """Of the case's network, for images that are normalised already."""
    encoder = ReleasedEncoder(load_network(case), [load_network(case).depth - 1])
    encoder.half_positions = half_positions
    return encoder


def phrases(described: dict[str, Any]) -> list[str]:
    """What the sentences are about: classes, then background words."""
    return [*described["class_prompts"], *described["background_words"]]


def softmax(values: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    shifted = np.exp(values - values.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


__all__ = ["load_network", "phrases", "released_encoder", "softmax"]
