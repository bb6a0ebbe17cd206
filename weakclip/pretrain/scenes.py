"""A bank of mini-world scenes with captions: what the shipped networks are pretrained on. No masks are kept."""

from __future__ import annotations

from dataclasses import dataclass

import joblib
import numpy as np
from numpy.typing import NDArray

from weakclip.datasets.mini import MiniWorld, caption
from weakclip.seeding import rng
from weakclip.workers import workers


@dataclass(frozen=True)
class SceneBank:
    """``images``: (n, side, side, 3) uint8 RGB. ``captions``: n sentences. ``words``: what each caption names."""

    images: NDArray[np.uint8]
    captions: tuple[str, ...]
    words: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.captions)


def draw_bank(world: MiniWorld, stream: str, count: int) -> SceneBank:
    """Draws ``count`` scenes in a process pool."""
    chunks = [range(start, min(start + 200, count)) for start in range(0, count, 200)]
    parts = joblib.Parallel(n_jobs=workers())(joblib.delayed(_draw_chunk)(world, stream, chunk) for chunk in chunks)
    return SceneBank(
        images=np.concatenate([part.images for part in parts]),
        captions=tuple(sentence for part in parts for sentence in part.captions),
        words=tuple(words for part in parts for words in part.words),
    )


def _draw_chunk(world: MiniWorld, stream: str, indices: range) -> SceneBank:
    scenes = [world.scene(stream, index) for index in indices]
    sentences = [
        caption(scene, rng(world.seed, stream, "caption", index)) for scene, index in zip(scenes, indices, strict=True)
    ]
    return SceneBank(np.stack([scene.image for scene in scenes]), tuple(sentences), tuple(scene.words for scene in scenes))
