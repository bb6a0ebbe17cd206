"""The disk fills up while a stage runs: is it said, with bytes, is nothing half there, and does the next run go on?"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.nursery import UNITS, Ended
from tests.faults.world import OUTS, UNFLUSHED, World
from weakclip.write_behind import WAITING

PAGE = 4096  # bytes; a file takes a multiple of it


@contextmanager
def small_disk(folder: Path, n_bytes: int) -> Iterator[bool]:
    """A file system of so many bytes of memory at an empty folder; False where this user may not mount one."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={n_bytes}", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def enlarge(disk: Path, n_bytes: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={n_bytes}", str(disk)], check=True)


def room_taken(world: World, stage: str) -> int:
    """The bytes of what a stage makes, in whole pages."""
    outs = tuple(f"{out}/" for out in OUTS[stage])
    return sum(-(-len(content) // PAGE) * PAGE for name, content in world.files.items() if name.startswith(outs))


def losses(world: World, stage: str, full_from: int) -> list[str]:
    """From an event of the stage on the disk is full; then there is room again. Says what is not as it should be."""
    world.before(stage)
    world.forget(stage)
    case = f"{stage} on a disk that is full from event {full_from} on"
    full = world.run(stage, full_from=full_from)
    if full.status == 0:  # what was left to be done took no room
        found = [f"{case}: {difference}" for difference in world.differences()]
    else:
        found = wrong_answer(world, stage, full, case) + losses_of_next(world, stage, full, case)
    world.restore(stage)
    return found


def losses_of_next(world: World, stage: str, full: Ended, case: str) -> list[str]:
    """Run a stage again that was stopped by a full disk."""
    ended = world.run(stage)
    if ended.status or ended.errors:
        return [f"{case}: the next run ended with {ended.status} and said {ended.errors!r}"]
    found = [f"{case}: {difference}" for difference in world.differences()]
    if world.scratch(stage) != world.scratches[stage]:
        found.append(f"{case}: .resume holds {world.scratch(stage)}, not {world.scratches[stage]}")
    twice = full.units + ended.units - world.runs[stage].units
    # What waits behind a write that fails is lost with it.
    if stage in UNITS and not 0 <= twice <= UNFLUSHED[stage] + WAITING:
        found.append(f"{case}: {full.units} and {ended.units} units of work were done, of {world.runs[stage].units}")
    return found


def wrong_answer(world: World, stage: str, ended: Ended, case: str) -> list[str]:
    """What is wrong with what a stage says of a full disk, and with what it leaves."""
    lines = ended.errors.splitlines()
    proper = ended.status == 1 and len(lines) == 2 and lines[0].startswith("error: ") and lines[1].startswith("hint: ")
    if not proper or not re.search(r"\d.* [kMG]?B are free on the disk", lines[0]):
        return [f"{case}: ended with {ended.status} and said {ended.errors!r}"]
    found = world.contents()
    outs = tuple(f"{out}/" for out in OUTS[stage])
    return [
        f"{case}: left {name}, which is not what it should be"
        for name, content in found.items()
        if name.startswith(outs) and content != world.files.get(name)
        if not world.is_growing_curve(name, content)
    ] + [f"{case}: half there: {difference}" for difference in world.half_there(stage)]
