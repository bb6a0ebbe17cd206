"""Canvases that the mini CLIP is pretrained on: whole scenes, zoomed and shifted, and collages of four small ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from weakclip.clip.mini import MEAN, STD, VISION
from weakclip.datasets.mini import BACKGROUND_WORDS, CLASS_NAMES
from weakclip.pretrain.scenes import SceneBank
from weakclip.seeding import rng

WORDS: Final = CLASS_NAMES + BACKGROUND_WORDS
SIDE: Final = 128
GRID: Final = SIDE // VISION.patch_size


@dataclass(frozen=True, kw_only=True)
class ClipRecipe:
    """``world``: seed of the mini world to draw from, never one that is scored. ``context_probability``: contexts are
    looser than in the scored worlds, as the web is wider than a data set. ``sparse_share``: share of the steps that see half
    of the tokens, a random half for each canvas, which more than halves their cost."""

    seed: int = 0
    world: int = 1000
    context_probability: float = 0.6
    scenes: int = 12000
    iterations: int = 650
    canvases: int = 16
    collage_share: float = 0.5
    zoom: tuple[float, float] = (0.7, 1.6)
    lr: float = 1.5e-3
    warmup: int = 100
    weight_decay: float = 0.05
    sparse_share: float = 0.7


@dataclass(frozen=True)
class Canvases:
    """``pixels``: (B, 3, 128, 128) float 0..255. ``targets``: (B, grid^2, words), shares of the words in each token.
    ``named``: (B, words) bool, what the captions of a canvas name. ``captions``: its sentences, with what each names."""

    pixels: Tensor
    targets: Tensor
    named: Tensor
    captions: list[tuple[str, NDArray[np.bool_]]]


def compose(bank: SceneBank, targets: NDArray[np.uint8], recipe: ClipRecipe, step: int) -> Canvases:
    """The canvases of a step. ``targets``: (n, words, 32, 32) uint8, see `weakclip.pretrain.teacher.word_targets`."""
    draw = rng(recipe.seed, "canvases", step)
    grid = 2 if draw.random() < recipe.collage_share else 1
    chosen = draw.integers(len(bank), size=recipe.canvases * grid * grid)
    zoom = draw.uniform(*recipe.zoom, len(chosen)) if grid == 1 else draw.uniform(0.85, 1.15, len(chosen))
    shift = draw.uniform(-1, 1, (len(chosen), 2)) * np.abs(1 - 1 / zoom)[:, None]
    mirror = np.where(draw.random(len(chosen)) < 0.5, -1.0, 1.0)
    theta = torch.zeros(len(chosen), 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = torch.from_numpy(mirror / zoom), torch.from_numpy(1 / zoom)
    theta[:, :, 2] = torch.from_numpy(shift)
    side = SIDE // grid
    photos = torch.from_numpy(bank.images[chosen]).permute(0, 3, 1, 2).float()
    shares = torch.from_numpy(targets[chosen]).float() / 255
    if grid == 2:
        photos, shares = functional.avg_pool2d(photos, 2), functional.avg_pool2d(shares, 2)
    cells = side // VISION.patch_size
    photos = sample(photos, theta, side)
    shares = functional.adaptive_avg_pool2d(sample(shares, theta, max(2 * cells, shares.shape[-1])), cells)
    said = np.stack([np.isin(WORDS, bank.words[index]) for index in chosen])
    return Canvases(
        pixels=tile(photos, grid),
        targets=tile(shares, grid).flatten(2).transpose(1, 2),
        named=torch.from_numpy(said.reshape(recipe.canvases, grid * grid, -1).any(axis=1)),
        captions=[(bank.captions[index], row) for index, row in zip(chosen, said, strict=True)],
    )


def sample(images: Tensor, theta: Tensor, side: int) -> Tensor:
    """Each image (n, C, H, W) through its affine map (n, 2, 3), at (side, side), reflected at its borders."""
    grid = functional.affine_grid(theta, [*images.shape[:2], side, side], align_corners=False)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def tile(pictures: Tensor, grid: int) -> Tensor:
    """(B grid^2, C, s, s) -> (B, C, grid s, grid s)."""
    count, channels, side, _ = pictures.shape
    rows = pictures.reshape(count // grid**2, grid, grid, channels, side, side).permute(0, 3, 1, 4, 2, 5)
    return rows.reshape(-1, channels, grid * side, grid * side)


def distort(pixels: Tensor, draw: np.random.Generator) -> Tensor:
    """Colour gain and offset per canvas; (B, 3, H, W) 0..255 -> normalised."""
    batch = len(pixels)
    gain = torch.from_numpy(draw.uniform(0.8, 1.2, (batch, 3, 1, 1)).astype(np.float32))
    offset = torch.from_numpy(draw.uniform(-20, 20, (batch, 1, 1, 1)).astype(np.float32))
    images = (pixels * gain + offset).clamp(0, 255) / 255
    return (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
