"""A file that a stage reads is damaged: does the stage name it, or come to the same artefacts all the same?"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.faults.events import Death
from tests.faults.world import OUTS, World

READ: Final[Mapping[str, tuple[str, ...]]] = {
    "cache_features": ("data/dataset/dataset.json", "data/dataset/images.csv", "data/dataset/images/train_*.jpg"),
    "train_cam": ("data/features/index.json", "data/features/*.h5", "data/dataset/masks/train_*.png"),
    "train_weakclip": ("data/cam/seeds/*.png", "data/features/*.h5", "data/dataset/images/train_*.jpg"),
    "generate_masks": ("data/weakclip/*.safetensors", "data/weakclip/*.json", "data/dataset/images/train_*.jpg"),
    "refine_masks": ("data/masks/scores/index.json", "data/masks/scores/*.h5", "data/dataset/images/train_*.jpg"),
    "retrain_deeplab": ("data/masks/refined/*.png", "data/dataset/*.csv", "data/dataset/images/*.jpg"),
    "evaluate": (
        "data/deeplab/*.safetensors",
        "data/deeplab/*.json",
        "data/results/train_cam/metrics.json",
        "data/results/generate_masks/metrics.json",
        "data/results/refine_masks/metrics.json",
        "data/cam/labels/*.png",
        "data/masks/pseudo/*.png",
        "data/dataset/masks/val_*.png",
        "data/dataset/images/val_*.jpg",
    ),
}
"""What the stages read of each other's artefacts."""

RESUMED: Final[Mapping[str, tuple[str, ...]]] = {
    "cache_features": ("features/*.part", "features/*.h5", "features/*.journal"),
    "train_cam": ("state.pt", "cam/cams/*.h5"),
    "train_weakclip": ("state.pt",),
    "generate_masks": ("scores/*.h5", "scores/*.part", "scores/*.journal"),
    "refine_masks": ("statistics.jsonl", "refined/*.png", "gated/*.png"),
    "retrain_deeplab": ("state.pt",),
    "evaluate": ("predictions.jsonl", "predictions/*.png"),
}
"""What a stage that goes on reads of its killed run, in its slot."""

Damage = Callable[[bytes], bytes]


@dataclass(frozen=True)
class Flip:
    """One bit is another one; ``place``: share of the file's bits before it, 0..1."""

    place: float

    def __call__(self, content: bytes) -> bytes:
        bit = int(self.place * 8 * len(content))
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        return bytes(damaged)


@dataclass(frozen=True)
class Cut:
    """The end is missing; ``place``: share of the bytes that are left, 0..1."""

    place: float

    def __call__(self, content: bytes) -> bytes:
        return content[: int(self.place * len(content))]


@dataclass(frozen=True)
class Zeros:
    """A block of a disk, 512 bytes, reads as zeros; ``place``: share of the blocks before it, 0..1."""

    place: float

    def __call__(self, content: bytes) -> bytes:
        start = int(self.place * len(content)) // 512 * 512
        length = len(content[start : start + 512])
        return content[:start] + bytes(length) + content[start + length :]


def losses(world: World, stage: str, path: Path, damage: Damage, *, again: bool = False) -> list[str]:
    """Damage a file, run the stage that reads it, mend the file. ``again``: and see what the stage makes of it then."""
    world.before(stage)
    world.forget(stage)
    found = _answer(world, stage, path, damage)
    if again:
        world.before(stage)
        ended = world.run(stage)
        if ended.status or world.differences():
            found.append(f"{stage} after {path} was mended: {ended.status} {ended.errors!r} {world.differences()}")
    world.restore(stage)
    return found


def losses_of_resumed(world: World, stage: str, pattern: str, death: Death, damage: Damage, draw: random.Random) -> list[str]:
    """Kill the stage, damage what it would go on from, and run it again. What is not there yet, or empty, is not damaged."""
    world.before(stage)
    world.forget(stage)
    world.run(stage, death=death)
    slots = [path for path in (world.folder / ".resume" / stage).glob("*") if not path.name.endswith(".closed")]
    files = sorted(path for slot in slots for path in slot.glob(pattern) if path.stat().st_size)
    found = []
    if files:
        world.before(stage)
        found = _answer(world, stage, draw.choice(files), damage)
    world.restore(stage)
    return found


def draw_damage(draw: random.Random) -> Damage:
    kind: Callable[[float], Damage] = draw.choice((Flip, Flip, Cut, Zeros))
    return kind(draw.random())


def _answer(world: World, stage: str, path: Path, damage: Damage) -> list[str]:
    """What is wrong with the stage's answer to a damaged file, which is mended before anything else happens."""
    name, content = path.relative_to(world.folder).as_posix(), path.read_bytes()
    damaged = damage(content)
    path.write_bytes(damaged)
    ended = world.run(stage)
    resumed = name.startswith(".resume")
    if not resumed or path.exists():
        path.write_bytes(content)
    case = f"{stage}, {name}, {damage}: ended with {ended.status} and said {ended.errors!r}"
    if damaged == content or (ended.status == 0 and not ended.errors):
        return [f"{case}, but {difference}" for difference in world.differences()]
    lines = ended.errors.splitlines()
    proper = ended.status == 1 and len(lines) == 2 and lines[0].startswith("error: ") and lines[1].startswith("hint: ")
    left = [out for out in OUTS[stage] if (world.folder / out).exists() and not out.startswith("data/results")]
    return ([] if proper and path.name in lines[0] else [case]) + [f"{case}, and left {out}" for out in left]
