"""Experiments in the queue, two at a time, on photos and weights of the user's own; their workers are killed, too.

DVC runs each in a copy of the project of its own, with the cache of this one.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from ruamel.yaml import YAML
from safetensors.torch import save_file

from stages import refine_masks
from stages.cli import link_photos
from tests.conftest import TINY, Project, change_params, make_project
from tests.faults import nursery
from weakclip.datasets.mini import MiniWorld

STAGES = tuple(importlib.import_module(f"stages.{name}") for name in nursery.STAGES)
PHOTOS = 8
ENCODER = "test_resnet"
EXPERIMENTS = {"wide": ("crf.bilateral_sxy", 9), "fast": ("deeplab.lr", 0.002)}
PATIENCE = 600  # seconds


def photographed(folder: Path) -> None:
    """A folder as a user has it, outside the project: photos, tags, classes, the weights of an encoder."""
    folder.mkdir()
    world, rows = MiniWorld(seed=3, side=64), ["image,tags"]
    names: set[str] = set()
    for number in range(PHOTOS):
        scene = world.scene("train", number)
        Image.fromarray(scene.image).save(folder / f"{number}.png")
        rows.append(f"{number},{';'.join(scene.tags)}")
        names |= {*scene.tags}
    (folder / "tags.csv").write_text("\n".join(rows))
    (folder / "classes.txt").write_text("\n".join(sorted(names)))
    save_file(timm.create_model(ENCODER, pretrained=False).state_dict(), folder / "encoder.safetensors")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project on such a folder, in which all stages have run."""
    home = tmp_path_factory.mktemp("queue")
    photographed(home / "photos")
    project = make_project(home / "project")
    shutil.copyfile(project.folder / "weakclip" / "presets" / "folder.yaml", project.folder / "params.yaml")
    own = {name: value for name, value in TINY.items() if not name.startswith("dataset.")}
    weights = {"deeplab.encoder": ENCODER, "deeplab.encoder_weights": "data/raw/photos/encoder.safetensors"}
    project.set({**own, **weights, "deeplab.iterations": 6})
    with contextlib.chdir(project.folder), pytest.MonkeyPatch.context() as patch:
        patch.setenv("WEAKCLIP_WORKERS", "1")
        patch.setenv("WEAKCLIP_DEVICE", "cpu")
        link_photos(home / "photos")
        for stage in STAGES:
            stage.main()
    project.dvc("commit", "--force", "--quiet")
    project.commit()
    return project


def queue(project: Project, name: str) -> None:
    key, value = EXPERIMENTS[name]
    project.dvc("exp", "run", "--queue", "--name", name, "--set-param", f"{key}={value}")


def start_two_workers(project: Project) -> None:
    """In the background, as DVC does it. They keep the outputs of who starts them, so these are no pipes."""
    command = [sys.executable, "-m", "dvc", "queue", "start", "--jobs", "2"]
    with (project.folder.parent / "started.txt").open("a") as file:
        subprocess.run(command, cwd=project.folder, env=project.environment, stdout=file, stderr=file, check=True)


def finished(project: Project) -> dict[str, str]:
    """The commits of the experiments that are done, by name."""
    lines = project.run("git", "for-each-ref", "--format=%(refname) %(objectname)", "refs/exps").stdout.splitlines()
    commits = {name.rpartition("/")[2]: commit for name, commit in (line.split() for line in lines)}
    return {name: commits[name] for name in EXPERIMENTS if name in commits}


def wait_for(happened: Callable[[], object], project: Project, pause: float) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        outputs = (path.read_text(errors="replace") for path in (project.folder / ".dvc/tmp/exps").glob("run/*/*.out"))
        assert time.monotonic() < deadline, "\n".join(outputs)
        time.sleep(pause)


def processes_in(folder: Path) -> Iterator[int]:
    """The processes that stand in a folder or below it."""
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has just ended, or is another user's
            if (entry / "cwd").readlink().is_relative_to(folder):
                yield int(entry.name)


def kill_all(project: Project) -> None:
    """As a machine that is switched off: workers, DVC and stages at once."""
    while found := list(processes_in(project.folder)):
        for process in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.1)


@pytest.fixture(scope="module")
def queued(done: Project) -> Iterator[Project]:
    """The project after both experiments ran side by side, were killed in the middle, and were queued again."""
    try:
        for name in EXPERIMENTS:
            queue(done, name)
        start_two_workers(done)
        scratch = done.folder / ".dvc" / "tmp" / "exps"
        wait_for(lambda: any(scratch.glob("tmp*/.resume/*/*")), done, 0.02)  # a stage has begun its work
        kill_all(done)
        killed = {*EXPERIMENTS} - {*finished(done)}
        assert killed
        # What ran when its worker was killed is said to run for ever after, until it is told to end.
        for name in sorted(killed):
            done.run("python", "-m", "dvc", "queue", "kill", name, check=False)
            # One that its worker had taken, and not yet begun, is not known any more.
            done.run("python", "-m", "dvc", "queue", "remove", name, check=False)
            queue(done, name)
        start_two_workers(done)
        wait_for(lambda: len(finished(done)) == len(EXPERIMENTS), done, 0.5)
        yield done
    finally:
        kill_all(done)


def published(project: Project, commit: str, out: str) -> dict[str, str]:
    """MD5 of the files of an experiment's artefact, by name, as DVC wrote them down and has them in its cache."""
    lock = YAML(typ="safe", pure=True).load(project.run("git", "show", f"{commit}:dvc.lock").stdout)
    digests = {entry["path"]: entry["md5"] for stage in lock["stages"].values() for entry in stage["outs"]}
    digest = digests[out]
    listed = json.loads((project.folder / ".dvc/cache/files/md5" / digest[:2] / digest[2:]).read_text())
    return {entry["relpath"]: entry["md5"] for entry in listed}


def made_here(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.md5(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As the experiments' processes have it; with more of them the weights are other bytes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_queued_experiment_comes_to_what_the_stages_come_to_here(
    queued: Project, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = finished(queued)[name]
    copy = tmp_path / "copy"
    shutil.copytree(queued.folder / "data", copy / "data", symlinks=True)
    shutil.copyfile(queued.folder / "params.yaml", copy / "params.yaml")
    change_params(copy / "params.yaml", dict([EXPERIMENTS[name]]))
    monkeypatch.chdir(copy)
    monkeypatch.setenv("WEAKCLIP_WORKERS", "1")
    monkeypatch.setenv("WEAKCLIP_DEVICE", "cpu")
    for stage in STAGES[STAGES.index(refine_masks) :]:
        stage.main()
    for out in ("data/masks/refined", "data/deeplab", "data/results/evaluate/predictions", "data/results/evaluate/report"):
        assert published(queued, commit, out) == made_here(copy / out)
    metrics = queued.run("git", "show", f"{commit}:data/results/evaluate/metrics.json").stdout
    assert metrics == (copy / "data/results/evaluate/metrics.json").read_text()


def test_the_workspace_is_as_it_was(queued: Project) -> None:
    assert queued.run("git", "status", "--porcelain").stdout == ""
    assert "up to date" in queued.run("python", "-m", "dvc", "status").stdout
