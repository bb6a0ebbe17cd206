"""Kills, damages, full disks and odd inputs at random, for a while: `python -m tests.faults --seconds 600 --seed 1`."""

import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import typer

from tests.faults import damages, full_disks, kills
from tests.faults.inputs import CASES
from tests.faults.nursery import STAGES, Nursery
from tests.faults.world import World, make_world


def main(seconds: float = 600, seed: int = 0) -> None:
    """Kill stages, damage artefacts, fill the disk, feed odd inputs; the last line counts them, and what was lost.

    A loss is work or an artefact that is gone or different, damage that was used silently, or an answer that is not two lines.
    """
    draw, end = random.Random(seed), time.monotonic() + seconds
    os.environ["WEAKCLIP_WORKERS"] = "1"
    counts = {"kills": 0, "damages": 0, "full_disks": 0, "inputs": 0, "losses": 0}
    with tempfile.TemporaryDirectory(prefix="faults-") as folder, Nursery(Path(folder) / "scratch") as nursery:
        world = make_world(Path(folder) / "project", nursery)
        trials: dict[str, Callable[[], tuple[int, list[str]]]] = {
            "kills": lambda: try_kills(world, draw),
            "damages": lambda: try_damage(world, draw),
            "full_disks": lambda: try_full_disk(world, draw),
            "inputs": lambda: try_input(draw),
        }
        while time.monotonic() < end:
            kind = draw.choice([*trials])
            number, losses = trials[kind]()
            for loss in losses:
                print(f"loss: {loss}", flush=True)
            counts[kind] += number
            counts["losses"] += len(losses)
            if losses:
                for stage in STAGES:
                    world.restore(stage)
    print(json.dumps(counts), flush=True)
    raise SystemExit(1 if counts["losses"] else 0)


def try_kills(world: World, draw: random.Random) -> tuple[int, list[str]]:
    """How many there were, and what was lost."""
    drawn = kills.draw_kills(world, STAGES, draw)
    return len(drawn.deaths), kills.losses(world, drawn)


def try_damage(world: World, draw: random.Random) -> tuple[int, list[str]]:
    """Of an artefact of another stage, or of what a killed run has left to go on from."""
    stage, damage = draw.choice([*damages.READ]), damages.draw_damage(draw)
    if draw.random() < 0.3:
        death = kills.draw_death(world, stage, draw, kind=signal.SIGKILL)
        return 1, damages.losses_of_resumed(world, stage, draw.choice(damages.RESUMED[stage]), death, damage, draw)
    path = draw.choice(sorted(world.folder.glob(draw.choice(damages.READ[stage]))))
    return 1, damages.losses(world, stage, path, damage, again=draw.random() < 0.3)


def try_full_disk(world: World, draw: random.Random) -> tuple[int, list[str]]:
    """From a drawn event of a drawn stage on."""
    stage = draw.choice(STAGES)
    return 1, full_disks.losses(world, stage, draw.randint(1, len(world.runs[stage].events)))


def try_input(draw: random.Random) -> tuple[int, list[str]]:
    """One of the cases, in this process."""
    name, case = draw.choice(CASES)
    with tempfile.TemporaryDirectory(prefix="inputs-") as folder:
        try:
            case(Path(folder))
        except Exception as error:  # the case's assertion, or what should have been an error of two lines
            return 1, [f"{name}: {type(error).__name__}: {error}"]
    return 1, []


if __name__ == "__main__":
    try:
        typer.run(main)
    except KeyboardInterrupt:
        sys.exit(130)
