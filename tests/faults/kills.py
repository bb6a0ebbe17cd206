"""A stage is killed, perhaps several times, and run again: is everything there, to the byte, and nothing done twice?"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tests.faults.events import Death
from tests.faults.nursery import survivors
from tests.faults.world import UNFLUSHED, World

STATUS = {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 128 + signal.SIGTERM}


@dataclass(frozen=True, kw_only=True)
class Strike:
    """A signal from outside after some seconds, to a stage with two worker processes."""

    seconds: float
    signal: int


@dataclass(frozen=True, kw_only=True)
class Kills:
    """The deaths of one run of a stage and of those that go on with it. ``by_dvc``: what a run has published is removed before
    the next one, as DVC does it; otherwise it stays, as after the stage's command alone."""

    stage: str
    deaths: tuple[Death | Strike, ...]
    by_dvc: bool


def losses(world: World, kills: Kills) -> list[str]:
    """Kill the stage so, run it undisturbed, say what is not as it should be. The world is as before, or a loss is named."""
    stage, units, found, sessions = kills.stage, 0, [], []
    world.before(stage)
    world.forget(stage)
    for death in (*kills.deaths, None):
        closed = is_finished(world, stage)  # by an earlier run, whose artefacts may be gone again
        if isinstance(death, Strike):
            ended = world.run(stage, after=(death.seconds, death.signal), workers=2)
        else:
            ended = world.run(stage, death=death)
        units += ended.units
        sessions.append(ended.session)
        if ended.status == 0:
            break  # perhaps before its hour
        # A process of joblib cleans up behind one that was killed, and says so.
        said = "Traceback" in ended.errors if isinstance(death, Strike) else ended.errors
        if death is None or ended.status != STATUS[signal.Signals(death.signal)] or said:
            found.append(f"{kills}, {death}: ended with {ended.status} and said {ended.errors!r}")
        if is_finished(world, stage) and not closed:
            found += [f"{kills}, {death}, finished: {difference}" for difference in world.differences()]
            units = 0  # nothing was left to be done
        found += [f"{kills}, {death}, half there: {difference}" for difference in world.half_there(stage)]
        if kills.by_dvc:
            world.before(stage)
    found += [f"{kills}: {difference}" for difference in world.differences()]
    if world.scratch(stage) != world.scratches[stage]:
        found.append(f"{kills}: .resume holds {world.scratch(stage)}, not {world.scratches[stage]}")
    if left := [process for session in sessions for process in lasting(session)]:
        found.append(f"{kills}: the processes {left} have not ended")
    twice = units - world.runs[stage].units
    counted = not any(isinstance(death, Strike) for death in kills.deaths)  # what other processes do is not
    if counted and not 0 <= twice <= len(kills.deaths) * UNFLUSHED[stage]:
        found.append(f"{kills}: {units} units of work were done, of {world.runs[stage].units}")
    return found


def lasting(session: int, patience: float = 20) -> list[int]:
    """The processes of a run that do not end within some seconds."""
    deadline = time.monotonic() + patience
    while (left := survivors(session)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def is_finished(world: World, stage: str) -> bool:
    """Whether a killed run had closed its slot, and only its removal was left."""
    left = world.scratch(stage)
    return bool(left) and all(name.split("/")[0].endswith(".closed") for name in left)


def draw_death(world: World, stage: str, draw: random.Random, *, late: bool = False, kind: int | None = None) -> Death:
    """A moment of the stage's undisturbed run; ``late``: of its last quarter, where artefacts are published."""
    events = len(world.runs[stage].events)
    return Death(
        event=draw.randint(1 + 3 * events // 4 if late else 1, events),
        signal=kind or draw.choice((signal.SIGKILL, signal.SIGTERM)),
        torn=draw.random() < 0.5,
    )


def draw_kills(world: World, stages: Sequence[str], draw: random.Random) -> Kills:
    """One to three deaths of a drawn stage, at events or, of one run in four, at any time."""
    stage, number = draw.choice(stages), draw.randint(1, 3)
    deaths: tuple[Death | Strike, ...]
    if draw.random() < 0.25:
        longest = world.runs[stage].seconds
        deaths = tuple(
            Strike(seconds=longest * draw.random(), signal=draw.choice((signal.SIGKILL, signal.SIGTERM))) for _ in range(number)
        )
    else:
        deaths = tuple(draw_death(world, stage, draw, late=draw.random() < 0.3) for _ in range(number))
    return Kills(stage=stage, deaths=deaths, by_dvc=draw.random() < 0.5)
