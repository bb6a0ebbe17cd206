"""The mini world: drawn scenes with image-level tags, captions and true masks.

A laboratory for weak supervision that a laptop masters in minutes. It keeps the three difficulties of the field:

* a class has a small distinctive part (head, sail, windows) and a plain body whose colours other classes share, so class
  activation maps light up the part;
* boats come with water and trains with rails nine times out of ten, so activation leaks into the context;
* objects cover from a tenth of the picture to nearly all of it, overlap, and stand among distractors.

Every scene is a pure function of ``(seed, stream, index)``. `MINI_VERSION` changes whenever a pixel may change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from weakclip.datasets.mini_grounds import draw_ground, smooth_noise
from weakclip.datasets.mini_objects import DRAWERS, draw_distractor, paint_parts, place

MINI_VERSION: Final = "2"

CLASS_NAMES: Final = ("cat", "dog", "bird", "sheep", "boat", "train", "car", "person", "bottle", "plant")
FLOORS: Final = ("grass", "water", "rails", "road", "sand", "snow", "wood")
BACKDROPS: Final = ("sky", "wall", "forest")
DISTRACTORS: Final = ("rock", "box", "ball")
BACKGROUND_WORDS: Final = FLOORS + BACKDROPS + DISTRACTORS

CONTEXT: Final = {"boat": "water", "train": "rails"}

SUPERSAMPLING: Final = 2
SMALLEST_VISIBLE_SHARE: Final = 0.015


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One picture of the mini world.

    ``image``: (H, W, 3) uint8 RGB. ``mask``: (H, W) uint8, 0 background, ``1 + index`` into `CLASS_NAMES`.
    ``tags``: classes with visible pixels. ``grounds``: floor and, if there is one, backdrop. ``distractors``: their words.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    tags: tuple[str, ...]
    grounds: tuple[str, ...]
    distractors: tuple[str, ...]

    @property
    def words(self) -> tuple[str, ...]:
        """All that a complete caption of the scene names."""
        return self.tags + self.grounds + self.distractors


@dataclass(frozen=True, kw_only=True)
class MiniWorld:
    """The scenes of one seed.

    ``side``: of a picture in pixels. ``context_probability``: share of boats on water and trains on rails.
    ``fade``: range of the share of colour that the camera loses. ``cast``: range of its gain in each channel. The networks that
    come with the project have learnt from a better camera (`clear_world`), as CLIP has from other photos than yours.
    """

    seed: int
    side: int = 128
    context_probability: float = 0.88
    fade: tuple[float, float] = (0.0, 0.5)
    cast: tuple[float, float] = (0.8, 1.2)

    def scene(self, stream: str, index: int) -> Scene:
        """Scene ``index`` of a stream (``train``, ``val``, ``pretrain``...): same arguments, same pixels."""
        key = [self.seed, index, *stream.encode()]
        for attempt in range(20):
            scene = self._draw(np.random.default_rng([*key, attempt]))
            if scene is not None:
                return scene
        raise RuntimeError(f"no scene with every class visible in 20 attempts: seed {self.seed}, {stream} {index}")

    def _draw(self, rng: np.random.Generator) -> Scene | None:
        names = self._choose_classes(rng)
        floor = self._choose_floor(rng, names)
        height = width = self.side
        horizon = int(height * rng.uniform(0.12, 0.5)) if rng.random() < 0.75 else 0
        backdrop = BACKDROPS[rng.integers(len(BACKDROPS))] if horizon else None
        ground = draw_ground(floor, rng, height, width)
        if backdrop is not None:
            ground[:horizon] = draw_ground(backdrop, rng, horizon, width)

        scale = SUPERSAMPLING
        canvas = Image.fromarray(np.clip(ground, 0, 255).astype(np.uint8)).resize(
            (width * scale, height * scale), Image.Resampling.NEAREST
        )
        labels = Image.new("L", canvas.size, 0)
        draw_colours, draw_labels = ImageDraw.Draw(canvas), ImageDraw.Draw(labels)

        words = [DISTRACTORS[i] for i in rng.permutation(len(DISTRACTORS))[: rng.choice(3, p=(0.45, 0.35, 0.2))]]
        for word in words:
            where = (rng.uniform(0.05, 0.95) * canvas.width, rng.uniform(horizon / height + 0.1, 0.95) * canvas.height)
            parts = place(draw_distractor(word, rng), rng, size=rng.uniform(0.14, 0.34) * canvas.width, centre=where, tilt=30)
            paint_parts(parts, draw_colours, draw_labels, 0)
        for order, name in enumerate(names):
            share = rng.uniform(0.42, 1.05) if len(names) == 1 else rng.uniform(0.36, 0.72)
            # Neighbours stand side by side more often than on top of each other.
            x = rng.uniform(0.3, 0.7) if len(names) == 1 else (order + rng.uniform(0.25, 0.75)) / len(names)
            where = (x * canvas.width, rng.uniform(0.42, 0.72) * canvas.height)
            parts = place(DRAWERS[name](rng), rng, size=share * canvas.width, centre=where, tilt=14)
            paint_parts(parts, draw_colours, draw_labels, 1 + CLASS_NAMES.index(name))

        image = np.asarray(canvas.reduce(scale), dtype=np.float32)
        mask = np.asarray(labels)[::scale, ::scale].copy()
        shares = np.bincount(mask.ravel(), minlength=1 + len(CLASS_NAMES)) / mask.size
        if any(shares[1 + CLASS_NAMES.index(name)] < SMALLEST_VISIBLE_SHARE for name in names):
            return None
        return Scene(
            image=self._expose(rng, image),
            mask=mask,
            tags=tuple(name for name in CLASS_NAMES if name in names),
            grounds=(floor,) if backdrop is None else (floor, backdrop),
            distractors=tuple(word for word in DISTRACTORS if word in words),
        )

    def _choose_classes(self, rng: np.random.Generator) -> list[str]:
        count = 1 + rng.choice(3, p=(0.5, 0.38, 0.12))
        return [CLASS_NAMES[i] for i in rng.permutation(len(CLASS_NAMES))[:count]]

    def _choose_floor(self, rng: np.random.Generator, names: Sequence[str]) -> str:
        """The context of the first class that has one, mostly; contexts are rare without their class."""
        contexts = [CONTEXT[name] for name in names if name in CONTEXT]
        if contexts and rng.random() < self.context_probability:
            return contexts[0]
        weights = np.array([0.3 if floor in CONTEXT.values() else 1.0 for floor in FLOORS])
        return FLOORS[rng.choice(len(FLOORS), p=weights / weights.sum())]

    def _expose(self, rng: np.random.Generator, image: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Light that changes across the picture, fine texture, the camera's colours and its noise."""
        height, width, _ = image.shape
        light = 1 + 0.12 * smooth_noise(rng, height, width, 48)[..., None] + rng.normal(0, 0.06)
        texture = 7 * smooth_noise(rng, height, width, 3)[..., None]
        noise = rng.uniform(3, 9) * rng.standard_normal(image.shape, dtype=np.float32)
        lit = (image * light + texture) * rng.uniform(*self.cast, 3)
        lost = rng.uniform(*self.fade)
        seen = (1 - lost) * lit + lost * lit.mean(axis=2, keepdims=True)
        exposed: NDArray[np.uint8] = np.clip(seen + noise, 0, 255).astype(np.uint8)
        return exposed


def clear_world(seed: int, context_probability: float) -> MiniWorld:
    """A world seen by a camera that keeps all colours: what the networks that come with the project learn from."""
    return MiniWorld(seed=seed, context_probability=context_probability, fade=(0.0, 0.0), cast=(1.0, 1.0))


def join_words(words: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """One sentence that names every object, ground and distractor of the scene, such as an alt text might."""
    things = [f"a {word}" for word in scene.tags + scene.distractors]
    things = [things[i] for i in rng.permutation(len(things))]
    opening = ("a photo of ", "a picture of ", "")[rng.integers(3)]
    floor, *backdrop = scene.grounds
    place_words = f" on {floor}" + (f" before {backdrop[0]}" if backdrop else "")
    return opening + join_words(things) + place_words
