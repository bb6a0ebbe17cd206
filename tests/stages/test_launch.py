"""A stage handed on to a launcher: one exit status, one message, and nothing that goes on behind the caller's back."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.torchrun import LAUNCHER, environment

JOB = """
import os, sys, time
from pathlib import Path
from stages._cli import run
from weakclip.errors import WeakClipError
from weakclip.progress import say
from weakclip.ranks import leave_to_main, world

def main(out: Path, kind: str = "") -> None:
    rank = world().rank
    if kind == "mistake":
        if rank == world().count - 1:
            raise WeakClipError("a is missing", "make a")
        world().barrier()
    if kind == "bug":
        raise ValueError("expected 3, got 4")
    if kind == "wait":
        (out / f"ready{os.getpid()}").touch()
        try:
            time.sleep(60)
        finally:
            (out / f"closed{os.getpid()}").touch()
    (out / f"rank{rank} of {world().count}").touch()
    say("working")
    leave_to_main()
    (out / "done").touch()

run(main)
"""

# Starts a single process where torchrun would start several, and is as talkative when it fails.
STAND_IN = """
import os, signal, subprocess, sys
process = subprocess.Popen([sys.executable, *sys.argv[1:]], env={**os.environ, "TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "1"})
def stop(*arguments):
    raise SystemExit(1)
signal.signal(signal.SIGTERM, stop)
try:
    failed = process.wait() != 0
except SystemExit:
    process.terminate()
    process.wait()
    failed = True
if failed:
    print("much about a failure", file=sys.stderr)
    raise SystemExit(1)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "job.py").write_text(JOB)
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    (tmp_path / "out").mkdir()
    return tmp_path


def command(folder: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "job", "out", *arguments]


def variables(folder: Path, launcher: str) -> dict[str, str]:
    known = environment(WEAKCLIP_LAUNCH=launcher)
    return {**known, "PYTHONPATH": f"{known['PYTHONPATH']}{os.pathsep}{folder}"}


def start(folder: Path, *arguments: str, launcher: str = f"{sys.executable} stand_in.py") -> subprocess.CompletedProcess[str]:
    job = command(folder, *arguments)
    return subprocess.run(job, cwd=folder, env=variables(folder, launcher), capture_output=True, text=True, check=False)


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "out").iterdir())


def test_torchrun_makes_ranks_of_a_stage(folder: Path) -> None:
    result = start(folder, launcher=LAUNCHER)
    assert (result.returncode, result.stdout, result.stderr) == (0, "working\n", "")
    assert left(folder) == ["done", "rank0 of 2", "rank1 of 2"]
    assert list((folder / ".resume").iterdir()) == []


def test_a_mistake_that_a_rank_finds_is_said_once(folder: Path) -> None:
    result = start(folder, "--kind", "mistake", launcher=LAUNCHER)
    assert (result.returncode, result.stdout, result.stderr) == (1, "", "error: a is missing\nhint: make a\n")
    assert left(folder) == []


def test_without_a_launcher_a_stage_is_alone(folder: Path) -> None:
    assert start(folder, launcher=" ").returncode == 0
    assert left(folder) == ["done", "rank0 of 1"]


def test_what_the_launcher_says_of_a_mistake_is_left_out(folder: Path) -> None:
    result = start(folder, "--kind", "mistake")
    assert (result.returncode, result.stderr) == (1, "error: a is missing\nhint: make a\n")


def test_a_bug_keeps_its_traceback(folder: Path) -> None:
    result = start(folder, "--kind", "bug")
    assert result.returncode == 1
    assert "ValueError: expected 3, got 4" in result.stderr


def test_wrong_usage_is_said_before_anything_is_launched(folder: Path) -> None:
    result = start(folder, "--what")
    assert (result.returncode, result.stderr.count("No such option")) == (2, 1)


@pytest.mark.parametrize("launcher", ["nowhere --n 2", "'unclosed"])
def test_a_launcher_that_cannot_be_run_is_two_lines(folder: Path, launcher: str) -> None:
    result = start(folder, launcher=launcher)
    assert result.returncode == 1
    assert [line.split(":")[0] for line in result.stderr.splitlines()] == ["error", "hint"]
    assert "WEAKCLIP_LAUNCH" in result.stderr


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL])
def test_what_ends_the_stage_ends_its_ranks(folder: Path, sent: signal.Signals) -> None:
    with subprocess.Popen(
        command(folder, "--kind", "wait"),
        cwd=folder,
        env=variables(folder, f"{sys.executable} stand_in.py"),
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        wait_for(folder, "ready")
        process.send_signal(sent)
        _, errors = process.communicate(timeout=30)
    wait_for(folder, "closed")
    assert process.returncode == (143 if sent == signal.SIGTERM else -sent)
    assert sent == signal.SIGKILL or errors == ""
    assert "done" not in left(folder)


def wait_for(folder: Path, name: str) -> None:
    deadline = time.monotonic() + 30
    while not list((folder / "out").glob(f"{name}*")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
