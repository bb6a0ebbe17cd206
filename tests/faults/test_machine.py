"""A machine that refuses, through the command of a stage: two lines, no artefact, and the next run ends as it should."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.inputs import OUT, build, handled

ROOT = Path(__file__).parents[2]
LIMITED = """
import resource, sys
import stages.prepare_dataset as stage, weakclip.progress
from stages._cli import run_here
if sys.argv[1:]:
    resource.setrlimit(resource.RLIMIT_{limit}, ({value}, {value}))
del sys.argv[1:]
run_here(stage.main)
"""


def command(folder: Path, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "WEAKCLIP_WORKERS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def two_lines(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 1, result.stderr
    first, second = result.stderr.splitlines()
    assert first.startswith("error: ") and second.startswith("hint: ")
    return first + second


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A project whose dataset was made once, so that it has parameters, and is gone."""
    build(tmp_path)
    handled(tmp_path)
    shutil.rmtree(tmp_path / OUT)
    return tmp_path


def test_too_few_open_files_are_two_lines_and_the_next_run_is_whole(made: Path) -> None:
    code = LIMITED.format(limit="NOFILE", value=3)
    said = two_lines(command(made, code, "limited"))
    assert "Too many open files" in said and "ulimit -n" in said
    assert not (made / OUT).exists()
    assert command(made, code).returncode == 0
    assert (made / OUT / "skipped.csv").read_text() == "file,reason\n"


def test_a_file_where_a_folder_is_wanted_is_two_lines(made: Path) -> None:
    shutil.rmtree(made / ".resume")
    (made / ".resume").write_text("")
    assert "Not a directory: .resume/prepare_dataset" in two_lines(command(made, LIMITED.format(limit="NOFILE", value=3)))


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        mounted = (
            subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(folder)], capture_output=True, check=False).returncode == 0
        )
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("this user may not mount a file system")
    build(folder / "project")
    handled(folder / "project")
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    yield folder / "project"
    subprocess.run(["umount", str(folder)], check=True)


def test_a_read_only_disk_is_two_lines(read_only: Path) -> None:
    before = (read_only / OUT / "images.csv").read_bytes()
    said = two_lines(command(read_only, LIMITED.format(limit="NOFILE", value=64)))
    assert "Read-only file system" in said and "mount the disk for writing" in said
    assert (read_only / OUT / "images.csv").read_bytes() == before
