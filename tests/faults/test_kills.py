"""Killed stages go on where they stood, to the same bytes."""

import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from tests.faults.events import Death
from tests.faults.kills import Kills, draw_death, lasting, losses
from tests.faults.nursery import STAGES
from tests.faults.world import World


@contextmanager
def with_toy(world: World) -> Iterator[World]:
    """The world and a run of the smallest stage in it."""
    ended = world.run("toy")
    assert (ended.status, ended.errors) == (0, "")
    try:
        yield replace(
            world, files=world.contents(), runs={**world.runs, "toy": ended}, scratches={**world.scratches, "toy": []}
        )
    finally:
        world.before("toy")
        world.forget("toy")


@pytest.mark.parametrize("by_dvc", [True, False])
def test_a_stage_may_die_at_every_single_event(world: World, by_dvc: bool) -> None:
    with with_toy(world) as toys:
        events = len(toys.runs["toy"].events)
        assert events > 20
        for event in range(1, events + 1):
            death = Death(event=event, torn=event % 2 == 0)
            assert losses(toys, Kills(stage="toy", deaths=(death,), by_dvc=by_dvc)) == []


@pytest.mark.parametrize("stage", STAGES)
def test_killed_terminated_and_killed_while_publishing(world: World, stage: str) -> None:
    draw = random.Random(f"kills of {stage}")
    events = len(world.runs[stage].events)
    deaths = (
        Death(event=draw.randint(events // 4, events // 2), torn=True),
        Death(event=draw.randint(events // 8, events // 4), signal=signal.SIGTERM),
        draw_death(world, stage, draw, late=True),
    )
    assert losses(world, Kills(stage=stage, deaths=deaths, by_dvc=draw.random() < 0.5)) == []


def test_processes_of_a_killed_stage_end_and_do_not_disturb_the_next_run(world: World) -> None:
    world.before("refine_masks")
    killed = world.run("refine_masks", workers=2, death=Death(event=30))
    assert killed.status == -signal.SIGKILL
    ended = world.run("refine_masks", workers=2)
    assert (ended.status, ended.errors, world.differences()) == (0, "", [])
    assert lasting(killed.session) == []
