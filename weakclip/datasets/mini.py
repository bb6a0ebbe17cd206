"""The mini world: drawn scenes with image-level tags, captions and true masks.

A laboratory for weak supervision that a laptop masters in minutes. It keeps the three difficulties of the field:

* a class has a small distinctive part (head, sail, windows) and a plain body whose colours other classes share, so class
  activation maps light up the part;
* boats come with water and trains with rails nine times out of ten, so activation leaks into the context;
* objects cover from a tenth of the picture to nearly all of it, overlap, and stand among distractors.

Every scene is a pure function of ``(seed, stream, index)``. `MINI_VERSION` changes whenever a pixel may change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

MINI_VERSION: Final = "2"

CLASS_NAMES: Final = ("cat", "dog", "bird", "sheep", "boat", "train", "car", "person", "bottle", "plant")
FLOORS: Final = ("grass", "water", "rails", "road", "sand", "snow", "wood")
BACKDROPS: Final = ("sky", "wall", "forest")
DISTRACTORS: Final = ("rock", "box", "ball")
BACKGROUND_WORDS: Final = FLOORS + BACKDROPS + DISTRACTORS

CONTEXT: Final = {"boat": "water", "train": "rails"}

Array = NDArray[np.floating]
Colour = tuple[int, int, int]
SUPERSAMPLING: Final = 2
SMALLEST_VISIBLE_SHARE: Final = 0.015

FUR: Final[tuple[Colour, ...]] = ((150, 100, 60), (110, 110, 115), (60, 50, 45), (225, 215, 205), (205, 140, 70))
PAINT: Final[tuple[Colour, ...]] = ((190, 50, 45), (50, 80, 170), (235, 235, 235), (60, 130, 80), (230, 190, 60), (90, 90, 100))
SKIN: Final[tuple[Colour, ...]] = ((240, 200, 170), (200, 150, 115), (130, 90, 65))


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


@dataclass(frozen=True)
class Part:
    """A polygon in the unit frame of its object: x to the right, y down, both about -0.5..0.5."""

    points: Array
    colour: Colour


def ellipse(x: float, y: float, width: float, height: float, corners: int = 22) -> Array:
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return np.stack([x + width / 2 * np.cos(angle), y + height / 2 * np.sin(angle)], axis=1)


def box(x: float, y: float, width: float, height: float) -> Array:
    return np.array([(x, y), (x + width, y), (x + width, y + height), (x, y + height)])


def polygon(*points: tuple[float, float]) -> Array:
    return np.array(points)


def pick(rng: np.random.Generator, palette: Sequence[Colour]) -> Colour:
    """A colour of the palette with a little variation."""
    base = np.array(palette[int(rng.integers(len(palette)))]) + rng.normal(0, 10, 3)
    red, green, blue = np.clip(base, 0, 255).astype(int).tolist()
    return red, green, blue


def shade(colour: Colour, factor: float) -> Colour:
    red, green, blue = (int(min(255, channel * factor)) for channel in colour)
    return red, green, blue


# The drawers: each returns the parts of one object, back to front. Bodies come first and are plain; what tells the class
# apart is drawn on top of them and is small.


def draw_cat(rng: np.random.Generator) -> list[Part]:
    fur = pick(rng, FUR)
    sitting = rng.random() < 0.5
    body = ellipse(0.02, 0.2, 0.55, 0.6) if sitting else ellipse(0.08, 0.15, 0.8, 0.38)
    head = (-0.02, -0.22) if sitting else (-0.3, -0.08)
    legs = [] if sitting else [Part(box(x, 0.2, 0.09, 0.27), fur) for x in (-0.2, 0.05, 0.28)]
    x, y = head
    return [
        Part(polygon((0.3, 0.25), (0.5, -0.15), (0.44, -0.18), (0.25, 0.12)), fur),
        *legs,
        Part(body, fur),
        Part(ellipse(x, y, 0.36, 0.34), fur),
        Part(polygon((x - 0.17, y - 0.05), (x - 0.15, y - 0.29), (x - 0.02, y - 0.14)), shade(fur, 0.75)),
        Part(polygon((x + 0.17, y - 0.05), (x + 0.15, y - 0.29), (x + 0.02, y - 0.14)), shade(fur, 0.75)),
        Part(ellipse(x - 0.08, y - 0.02, 0.09, 0.09), (120, 220, 90)),
        Part(ellipse(x + 0.08, y - 0.02, 0.09, 0.09), (120, 220, 90)),
        Part(ellipse(x, y + 0.07, 0.06, 0.04), (240, 130, 150)),
    ]


def draw_dog(rng: np.random.Generator) -> list[Part]:
    fur = pick(rng, FUR)
    return [
        Part(polygon((0.38, 0.02), (0.5, -0.25), (0.44, -0.27), (0.3, -0.02)), fur),
        *(Part(box(x, 0.1, 0.1, 0.38), fur) for x in (-0.2, -0.06, 0.2, 0.32)),
        Part(ellipse(0.08, 0.05, 0.72, 0.36), fur),
        Part(ellipse(-0.3, -0.17, 0.3, 0.32), fur),
        Part(ellipse(-0.42, -0.08, 0.2, 0.15), shade(fur, 1.15)),
        Part(ellipse(-0.2, -0.12, 0.12, 0.3), shade(fur, 0.45)),
        Part(ellipse(-0.5, -0.1, 0.07, 0.07), (20, 20, 20)),
        Part(ellipse(-0.33, -0.2, 0.05, 0.05), (15, 15, 15)),
        Part(box(-0.44, -0.02, 0.07, 0.1), (225, 70, 90)),
        Part(polygon((-0.28, 0.0), (-0.12, -0.07), (-0.1, 0.0), (-0.26, 0.07)), (210, 40, 40)),
    ]


def draw_bird(rng: np.random.Generator) -> list[Part]:
    feather = pick(rng, FUR + PAINT[:2])
    return [
        Part(polygon((0.2, 0.05), (0.5, -0.08), (0.5, 0.1), (0.25, 0.18)), feather),
        Part(box(-0.06, 0.25, 0.03, 0.22), (220, 150, 50)),
        Part(box(0.08, 0.25, 0.03, 0.22), (220, 150, 50)),
        Part(ellipse(0.02, 0.1, 0.62, 0.42), feather),
        Part(ellipse(-0.25, -0.17, 0.28, 0.28), feather),
        Part(polygon((-0.12, 0.0), (0.3, 0.02), (0.12, 0.24)), shade(feather, 0.65)),
        Part(polygon((-0.37, -0.24), (-0.5, -0.14), (-0.36, -0.08)), (250, 190, 30)),
        Part(ellipse(-0.27, -0.2, 0.06, 0.06), (10, 10, 10)),
    ]


def draw_sheep(rng: np.random.Generator) -> list[Part]:
    wool = pick(rng, (FUR[3], FUR[3], FUR[1], FUR[0]))
    dark = (45, 40, 40)
    bumps = [(-0.18, -0.1), (0.02, -0.16), (0.22, -0.1), (0.34, 0.05), (-0.2, 0.15), (0.2, 0.2), (0.0, 0.2)]
    return [
        *(Part(box(x, 0.15, 0.07, 0.33), dark) for x in (-0.18, -0.02, 0.18, 0.3)),
        *(Part(ellipse(x, y, 0.32, 0.28), wool) for x, y in bumps),
        Part(ellipse(0.06, 0.04, 0.62, 0.4), wool),
        Part(ellipse(-0.34, -0.12, 0.22, 0.3), dark),
        Part(ellipse(-0.22, -0.2, 0.14, 0.08), dark),
        Part(ellipse(-0.33, -0.25, 0.2, 0.12), wool),
        Part(ellipse(-0.38, -0.13, 0.04, 0.05), (240, 240, 240)),
    ]


def draw_boat(rng: np.random.Generator) -> list[Part]:
    paint = pick(rng, PAINT)
    sail = pick(rng, ((245, 240, 225), (245, 240, 225), (220, 90, 70)))
    return [
        Part(polygon((-0.5, 0.12), (0.5, 0.12), (0.36, 0.42), (-0.36, 0.42)), paint),
        Part(polygon((-0.5, 0.12), (0.5, 0.12), (0.47, 0.19), (-0.47, 0.19)), shade(paint, 0.7)),
        Part(box(-0.02, -0.5, 0.035, 0.64), (100, 70, 45)),
        Part(polygon((0.03, -0.46), (0.36, 0.04), (0.03, 0.04)), sail),
        Part(polygon((-0.04, -0.38), (-0.3, 0.04), (-0.04, 0.04)), shade(sail, 0.88)),
    ]


def draw_train(rng: np.random.Generator) -> list[Part]:
    paint = pick(rng, PAINT)
    wagons = [Part(box(x, -0.12, 0.15, 0.14), (170, 215, 235)) for x in (-0.24, -0.05, 0.14, 0.32)]
    return [
        Part(polygon((-0.5, 0.0), (-0.4, -0.22), (0.52, -0.22), (0.52, 0.24), (-0.5, 0.24)), paint),
        Part(box(-0.44, 0.22, 0.94, 0.06), (40, 40, 45)),
        *wagons,
        Part(polygon((-0.47, 0.0), (-0.4, -0.14), (-0.31, -0.14), (-0.31, 0.0)), (35, 50, 70)),
        Part(box(-0.5, 0.08, 1.02, 0.05), (250, 205, 40)),
        Part(ellipse(-0.44, 0.17, 0.07, 0.07), (255, 250, 190)),
    ]


def draw_car(rng: np.random.Generator) -> list[Part]:
    paint = pick(rng, PAINT)
    return [
        Part(polygon((-0.28, 0.0), (-0.16, -0.22), (0.2, -0.22), (0.34, 0.0)), paint),
        Part(polygon((-0.5, 0.02), (-0.44, -0.03), (0.46, -0.03), (0.5, 0.08), (0.5, 0.22), (-0.5, 0.22)), paint),
        Part(polygon((-0.22, -0.02), (-0.13, -0.18), (0.01, -0.18), (0.01, -0.02)), (175, 215, 230)),
        Part(polygon((0.05, -0.02), (0.05, -0.18), (0.17, -0.18), (0.27, -0.02)), (175, 215, 230)),
        *(Part(ellipse(x, 0.22, 0.24, 0.24), (25, 25, 28)) for x in (-0.27, 0.27)),
        *(Part(ellipse(x, 0.22, 0.11, 0.11), (180, 180, 185)) for x in (-0.27, 0.27)),
        Part(ellipse(-0.46, 0.08, 0.08, 0.07), (255, 245, 170)),
    ]


def draw_person(rng: np.random.Generator) -> list[Part]:
    skin, shirt, trousers = pick(rng, SKIN), pick(rng, PAINT), pick(rng, PAINT)
    hair = pick(rng, (FUR[2], FUR[0], FUR[4]))
    spread = rng.uniform(0.0, 0.08)
    return [
        Part(polygon((-0.12, 0.1), (0.0, 0.1), (-0.02 - spread, 0.5), (-0.12 - spread, 0.5)), trousers),
        Part(polygon((0.0, 0.1), (0.12, 0.1), (0.12 + spread, 0.5), (0.02 + spread, 0.5)), trousers),
        Part(polygon((-0.14, -0.2), (-0.2, -0.16), (-0.27 - spread, 0.1), (-0.19 - spread, 0.12)), shirt),
        Part(polygon((0.14, -0.2), (0.2, -0.16), (0.27 + spread, 0.1), (0.19 + spread, 0.12)), shirt),
        Part(polygon((-0.16, -0.22), (0.16, -0.22), (0.13, 0.15), (-0.13, 0.15)), shirt),
        Part(ellipse(-0.24 - spread, 0.13, 0.09, 0.08), skin),
        Part(ellipse(0.24 + spread, 0.13, 0.09, 0.08), skin),
        Part(ellipse(0.0, -0.37, 0.24, 0.27), hair),
        Part(ellipse(0.0, -0.34, 0.19, 0.22), skin),
        Part(ellipse(-0.04, -0.36, 0.03, 0.03), (20, 20, 20)),
        Part(ellipse(0.04, -0.36, 0.03, 0.03), (20, 20, 20)),
    ]


def draw_bottle(rng: np.random.Generator) -> list[Part]:
    glass = pick(rng, ((60, 120, 75), (105, 70, 40), (70, 110, 150), (200, 60, 55)))
    return [
        Part(
            polygon(
                (-0.15, 0.5),
                (-0.15, -0.05),
                (-0.06, -0.22),
                (-0.06, -0.42),
                (0.06, -0.42),
                (0.06, -0.22),
                (0.15, -0.05),
                (0.15, 0.5),
            ),
            glass,
        ),
        Part(box(-0.075, -0.5, 0.15, 0.1), (230, 200, 80)),
        Part(box(-0.15, 0.08, 0.3, 0.22), (245, 245, 235)),
        Part(box(-0.1, 0.16, 0.2, 0.06), (200, 50, 50)),
    ]


def draw_plant(rng: np.random.Generator) -> list[Part]:
    leaf, pot = pick(rng, ((70, 140, 60), (50, 110, 70), (110, 160, 60))), pick(rng, ((185, 95, 60), PAINT[1], PAINT[2]))
    leaves = []
    for angle in np.linspace(-1.15, 1.15, 7) + rng.normal(0, 0.08, 7):
        tip, side = np.array([np.sin(angle), -np.cos(angle)]), np.array([np.cos(angle), np.sin(angle)])
        base = np.array([0.0, 0.14])
        middle = base + 0.3 * tip
        leaves.append(
            Part(
                np.stack([base, middle + 0.09 * side, base + 0.6 * tip, middle - 0.09 * side]),
                shade(leaf, rng.uniform(0.8, 1.2)),
            )
        )
    return [
        Part(polygon((-0.2, 0.12), (0.2, 0.12), (0.14, 0.5), (-0.14, 0.5)), pot),
        Part(box(-0.23, 0.1, 0.46, 0.08), shade(pot, 0.8)),
        *leaves,
    ]


def draw_distractor(word: str, rng: np.random.Generator) -> list[Part]:
    if word == "rock":
        grey = pick(rng, ((125, 120, 115), (95, 90, 88)))
        angle = np.sort(rng.uniform(0, 2 * np.pi, 8))
        radius = rng.uniform(0.32, 0.5, 8)
        return [Part(np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1), grey)]
    if word == "box":
        card = pick(rng, ((185, 145, 95), PAINT[0], PAINT[4]))
        return [Part(box(-0.42, -0.4, 0.84, 0.8), card), Part(box(-0.06, -0.4, 0.12, 0.8), shade(card, 0.75))]
    paint = pick(rng, PAINT)
    return [Part(ellipse(0, 0, 0.9, 0.9), paint), Part(ellipse(-0.16, -0.18, 0.22, 0.2), shade(paint, 1.35))]


DRAWERS: Final[dict[str, Callable[[np.random.Generator], list[Part]]]] = {
    "cat": draw_cat,
    "dog": draw_dog,
    "bird": draw_bird,
    "sheep": draw_sheep,
    "boat": draw_boat,
    "train": draw_train,
    "car": draw_car,
    "person": draw_person,
    "bottle": draw_bottle,
    "plant": draw_plant,
}


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


def place(
    parts: Sequence[Part], rng: np.random.Generator, *, size: float, centre: tuple[float, float], tilt: float
) -> list[Part]:
    """Parts in canvas coordinates after mirror, stretch, tilt (degrees), scale (pixels) and shift."""
    angle = np.deg2rad(rng.uniform(-tilt, tilt))
    stretch = rng.uniform(0.85, 1.18)
    mirror = -1.0 if rng.random() < 0.5 else 1.0
    scale = np.diag([mirror * size * stretch, size / stretch])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ scale
    return [Part(part.points @ matrix.T + np.asarray(centre), part.colour) for part in parts]


def paint_parts(parts: Sequence[Part], colours: ImageDraw.ImageDraw, labels: ImageDraw.ImageDraw, label: int) -> None:
    for part in parts:
        corners = [(float(x), float(y)) for x, y in part.points]
        colours.polygon(corners, fill=part.colour)
        labels.polygon(corners, fill=label)


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
