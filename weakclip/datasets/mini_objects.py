"""Objects of the mini world as coloured polygons: ten classes and the distractors.

Bodies are plain and share their colours between classes; what tells a class apart is drawn on top of them and is small.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import ImageDraw

Array = NDArray[np.floating]
Colour = tuple[int, int, int]

FUR: Final[tuple[Colour, ...]] = ((150, 100, 60), (110, 110, 115), (60, 50, 45), (225, 215, 205), (205, 140, 70))
PAINT: Final[tuple[Colour, ...]] = ((190, 50, 45), (50, 80, 170), (235, 235, 235), (60, 130, 80), (230, 190, 60), (90, 90, 100))
SKIN: Final[tuple[Colour, ...]] = ((240, 200, 170), (200, 150, 115), (130, 90, 65))


@dataclass(frozen=True)
class Part:
    """A polygon in the unit frame of its object: x to the right, y down, both about -0.5..0.5."""

    points: Array
    colour: Colour


def ellipse(x: float, y: float, width: float, height: float, corners: int = 22) -> Array:
    """Corners (corners, 2) of an ellipse, from its centre, width and height."""
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return np.stack([x + width / 2 * np.cos(angle), y + height / 2 * np.sin(angle)], axis=1)


def box(x: float, y: float, width: float, height: float) -> Array:
    """Corners (4, 2) of a rectangle, from its upper left corner, width and height."""
    return np.array([(x, y), (x + width, y), (x + width, y + height), (x, y + height)])


def polygon(*points: tuple[float, float]) -> Array:
    """Corners (n, 2)."""
    return np.array(points)


def pick(rng: np.random.Generator, palette: Sequence[Colour]) -> Colour:
    """A colour of the palette with a little variation."""
    base = np.array(palette[int(rng.integers(len(palette)))]) + rng.normal(0, 10, 3)
    red, green, blue = np.clip(base, 0, 255).astype(int).tolist()
    return red, green, blue


def shade(colour: Colour, factor: float) -> Colour:
    """A colour made darker or lighter by a factor."""
    red, green, blue = (int(min(255, channel * factor)) for channel in colour)
    return red, green, blue


# The drawers: each returns the parts of one object, back to front.


def draw_cat(rng: np.random.Generator) -> list[Part]:
    """A cat: plain body, ears and whiskers that tell it."""
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
    """A dog."""
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
    """A bird."""
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
    """A sheep."""
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
    """A boat."""
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
    """A train."""
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
    """A car."""
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
    """A person."""
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
    """A bottle."""
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
    """A plant."""
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
    """A thing that is no class, such as a rock or a box."""
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
    """Fill the parts, back to front: their colours in one picture, ``label`` in the other."""
    for part in parts:
        corners = [(float(x), float(y)) for x, y in part.points]
        colours.polygon(corners, fill=part.colour)
        labels.polygon(corners, fill=label)
