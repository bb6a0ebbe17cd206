"""A bank of mini-world scenes with captions: what the shipped networks are pretrained on. No masks are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from weakclip.datasets.mini import MiniWorld, Scene, caption
from weakclip.process_pool import in_processes, note
from weakclip.seeding import rng
from weakclip.workers import workers

CHUNK: Final = 200  # scenes a task


@dataclass(frozen=True)
class SceneBank:
    """``images``: (n, side, side, 3) uint8 RGB. ``captions``: n sentences. ``words``: what each caption names."""

    images: NDArray[np.uint8]
    captions: tuple[str, ...]
    words: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.captions)


def draw_bank(world: MiniWorld, stream: str, count: int) -> SceneBank:
    """Draws ``count`` scenes in worker processes. Raises WeakClipError that names a scene if one of them is killed."""
    chunks = [range(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]
    tasks = ((world, stream, chunk) for chunk in chunks)
    parts = list(in_processes(_draw_chunk, tasks, max(1, min(workers(), len(chunks)))))
    return SceneBank(
        images=np.concatenate([part.images for part in parts]),
        captions=tuple(sentence for part in parts for sentence in part.captions),
        words=tuple(words for part in parts for words in part.words),
    )


def _draw_chunk(world: MiniWorld, stream: str, indices: range) -> SceneBank:
    scenes = [_draw_scene(world, stream, index) for index in indices]
    sentences = [
        caption(scene, rng(world.seed, stream, "caption", index)) for scene, index in zip(scenes, indices, strict=True)
    ]
    return SceneBank(np.stack([scene.image for scene in scenes]), tuple(sentences), tuple(scene.words for scene in scenes))


def _draw_scene(world: MiniWorld, stream: str, index: int) -> Scene:
    note(f"scene {index} of {stream}")
    return world.scene(stream, index)
