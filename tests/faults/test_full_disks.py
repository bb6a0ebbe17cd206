"""A disk that fills up while a stage runs on it: a real one where this user may mount one, and an imagined one."""

from __future__ import annotations

import random
import re

import pytest

from tests.faults.full_disks import enlarge, losses, losses_of_next, room_taken, small_disk, wrong_answer
from tests.faults.nursery import STAGES, UNITS
from tests.faults.world import OUTS, World

PLENTY = 200_000_000
# Of what the stage leaves. A training needs room for two checkpoints, each of weights and two moments; one fits. Features that
# cannot fit are refused beforehand, so of them the last shard's description has no room.
SHARES = {
    "prepare_dataset": 0.5,
    "cache_features": 0.997,
    "train_cam": 0.6,
    "train_weakclip": 4.5,
    "generate_masks": 0.6,
    "refine_masks": 0.6,
    "retrain_deeplab": 4.5,
    "evaluate": 0.3,
}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_on_a_disk_that_is_really_full_goes_on_when_there_is_room(world: World, stage: str) -> None:
    world.before(stage)
    disk, case = world.folder / ".resume", f"{stage} on a small disk"
    with small_disk(disk, round(SHARES[stage] * room_taken(world, stage))) as mounted:
        if not mounted:
            pytest.skip("this user may not mount a file system; the imagined disk below stands in for it")
        full = world.run(stage)
        assert wrong_answer(world, stage, full, case) == []
        assert re.search(r" needs? \d.*, \d.* free on the disk", full.errors)
        assert not [out for out in OUTS[stage] if (world.folder / out).exists() and not out.startswith("data/results")]
        enlarge(disk, PLENTY)
        assert losses_of_next(world, stage, full, case) == []
        if stage in UNITS:
            assert full.units > 0
    world.restore(stage)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_may_find_the_disk_full_at_any_event(world: World, stage: str) -> None:
    draw = random.Random(f"full disk of {stage}")
    assert losses(world, stage, draw.randint(2, len(world.runs[stage].events))) == []
