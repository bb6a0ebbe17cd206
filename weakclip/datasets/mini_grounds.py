"""Grounds of the mini world: textures of floors and backdrops."""

from __future__ import annotations

import numpy as np
from PIL import Image

from weakclip.datasets.mini_objects import Array, Colour


def smooth_noise(rng: np.random.Generator, height: int, width: int, cell: int) -> Array:
    """Bilinear value noise, (height, width), about -1..1."""
    rows, columns = height // cell + 2, width // cell + 2
    grid = Image.fromarray(rng.uniform(-1, 1, (rows, columns)).astype(np.float32))
    return np.asarray(grid.resize((columns * cell, rows * cell), Image.Resampling.BILINEAR), dtype=np.float32)[:height, :width]


def draw_ground(word: str, rng: np.random.Generator, height: int, width: int) -> Array:
    """Texture of a floor or backdrop, (height, width, 3) float 0..255."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    fine, coarse = smooth_noise(rng, height, width, 2), smooth_noise(rng, height, width, 16)
    slant = x + rng.uniform(-0.4, 0.4) * y

    def paint(colour: Colour, pattern: Array) -> Array:
        jitter = rng.normal(0, 8, 3)
        return np.asarray(colour + jitter, dtype=np.float32) + pattern[..., None].astype(np.float32)

    if word == "grass":
        return paint((85, 140, 60), 26 * smooth_noise(rng, height, width, 3) + 12 * coarse)
    if word == "water":
        return paint((60, 115, 165), 20 * np.sin(y / rng.uniform(1.6, 2.6) + 3 * coarse) + 8 * coarse)
    if word == "rails":
        sleeper = 38.0 * (np.sin(slant / rng.uniform(1.8, 2.6)) > 0.4)
        rail = 75.0 * (np.abs((y / max(height, 1) * rng.integers(2, 4)) % 1 - 0.5) < 0.09)
        return paint((105, 95, 88), 16 * fine - sleeper + rail)
    if word == "road":
        line = 110.0 * (np.abs(y - height * rng.uniform(0.3, 0.7)) < 2.5) * (np.sin(slant / 6) > 0)
        return paint((95, 95, 100), 8 * fine + line)
    if word == "sand":
        return paint((215, 190, 140), 9 * fine + 14 * coarse)
    if word == "snow":
        return paint((232, 238, 245), 5 * fine + 10 * coarse)
    if word == "wood":
        return paint((165, 115, 70), 14 * np.sin(slant / 1.7 + 4 * coarse) - 45.0 * ((x + 3 * (y // 12)) % 24 < 1.5))
    if word == "sky":
        return paint((150, 195, 235), 35 * np.clip(smooth_noise(rng, height, width, 24), 0, 1) + 20 * (y / max(height, 1)))
    if word == "wall":
        brick = (y % 8 < 1.3) | ((x + 8 * ((y // 8) % 2)) % 16 < 1.3)
        return paint((165, 90, 75), 9 * fine + 50.0 * brick)
    return paint((45, 85, 50), 34 * smooth_noise(rng, height, width, 6) + 14 * fine)  # forest
