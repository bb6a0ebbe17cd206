"""Commands side by side, and `dvc repro` that is killed: nothing spoilt, and a message that says who is in the way."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Project, make_project
from tests.faults.kills import lasting
from tests.faults.world import PARAMS, World
from weakclip.errors import WeakClipError
from weakclip.features.shards import Column, ShardLayout, ShardReader
from weakclip.features.writer import ShardWriter

FORCED = (sys.executable, "-m", "dvc", "repro", "--force", "--single-item")  # not from DVC's run cache


@pytest.fixture(scope="module")
def repository(world: World, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A repository whose artefacts are the world's."""
    project = make_project(tmp_path_factory.mktemp("repository") / "project")
    project.set(PARAMS)
    shutil.copytree(world.folder / "data", project.folder / "data", dirs_exist_ok=True)
    project.dvc("commit", "--force", "--quiet")
    return project


def start(project: Project, stage: str) -> subprocess.Popen[str]:
    """Begin `dvc repro` of a stage, in a session of its own."""
    return subprocess.Popen(
        [*FORCED, stage],
        cwd=project.folder,
        env=project.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_for(happened: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    while not happened():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.002)


def other_files(project: Project, world: World, folder: str) -> list[str]:
    """The files under a folder that are not as in the world."""
    wanted = {name: content for name, content in world.files.items() if name.startswith(f"{folder}/")}
    paths = (path for path in (project.folder / folder).rglob("*") if path.is_file())
    found = {path.relative_to(project.folder).as_posix(): path.read_bytes() for path in paths}
    return sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))


def test_a_killed_repro_is_gone_on_with(repository: Project, world: World) -> None:
    process = start(repository, "refine_masks")
    home = repository.folder / ".resume" / "refine_masks"
    wait_for(lambda: any(path.stat().st_size for path in home.glob("*/statistics.jsonl")), process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert lasting(process.pid) == []
    for folder in ("data/masks/refined", "data/masks/gated"):  # nothing, or all of it
        assert not (repository.folder / folder).exists() or other_files(repository, world, folder) == []
    repository.run(*FORCED, "refine_masks")
    for folder in ("data/masks/refined", "data/masks/gated", "data/results/refine_masks"):
        assert other_files(repository, world, folder) == []
    assert list(home.iterdir()) == []


def test_a_stage_ends_with_its_dvc(repository: Project, world: World) -> None:
    process = start(repository, "train_weakclip")
    home = repository.folder / ".resume" / "train_weakclip"
    wait_for(lambda: any(home.glob("*/state.pt")), process)
    process.kill()  # DVC alone
    process.communicate()
    assert lasting(process.pid) == []
    repository.run(*FORCED, "train_weakclip")
    for folder in ("data/weakclip", "data/results/train_weakclip"):
        assert other_files(repository, world, folder) == []


def test_two_repros_at_once(repository: Project, world: World) -> None:
    cam = start(repository, "train_cam")
    wait_for(lambda: any((repository.folder / ".resume" / "train_cam").glob("*")), cam)
    refine = start(repository, "refine_masks")
    blocked = repository.run(*FORCED, "train_weakclip", check=False)
    if cam.poll() is None or blocked.returncode:  # it reads what the first one is about to write
        assert blocked.returncode != 0
        assert "is busy, it is being blocked by" in blocked.stderr or "Unable to acquire lock" in blocked.stderr
        assert "Traceback" not in blocked.stderr
    for process in (cam, refine):
        output = process.communicate()[0]
        assert process.returncode == 0, output
    for folder in ("data/cam/seeds", "data/cam/labels", "data/results/train_cam", "data/masks/refined", "data/masks/gated"):
        assert other_files(repository, world, folder) == []


def test_a_stage_that_is_running_is_not_started_again(world: World) -> None:
    home = world.folder / ".resume" / "refine_masks"
    home.mkdir(parents=True, exist_ok=True)
    held = os.open(home, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    refused = world.run("refine_masks")
    os.close(held)
    assert refused.status == 1
    assert refused.errors.splitlines()[0] == "error: another process is running refine_masks in this folder"
    assert world.differences() == []


def test_a_shard_is_read_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "shard.h5"
    column = Column(name="numbers", shape=(), dtype="<f4")
    writer = ShardWriter(path, ShardLayout(columns=(column,), counts=(2, 2), about=("a", "b"), attributes={}))
    for row in (0, 1):
        writer.write(row, {"numbers": np.full(2, row, np.float32)})
        writer.flush()
        with pytest.raises(WeakClipError, match=r"shard\.h5 is missing"):
            ShardReader(path, "")
        with pytest.raises(WeakClipError, match=r"shard\.h5\.part is not complete"):
            ShardReader(tmp_path / "shard.h5.part", "")
    writer.finish()
    assert ShardReader(path, "").read(1)["numbers"].tolist() == [1, 1]
