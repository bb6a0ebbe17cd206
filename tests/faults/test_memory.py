"""Memory that runs out in a worker process: refused to it, and the process killed for it by the system. Both are real."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.faults.inputs import OUT, build, handled, photo

ROOT = Path(__file__).parents[2]
LARGE = "b_large.png"  # 72 MB when it is decoded, and three times twice as much while it is laid on white
MOST = 700_000_000  # bytes of addresses, of which a worker without that photo needs half
MOST_OF_ALL = 400_000_000  # bytes of memory, for all processes together
HIERARCHY = Path("/sys/fs/cgroup")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Small photos, so that there are two tasks, and in the first of them a large one."""
    monkeypatch.setenv("WEAKCLIP_WORKERS", "1")
    names = [f"{letter}{number:02d}.png" for letter in "ac" for number in range(20)]
    build(tmp_path, photos=names, tags="image,tags\n" + "".join(f"{name},cat\n" for name in (*names, LARGE)))
    handled(tmp_path, "skip")  # for its parameters; the large one is not there yet
    photo(tmp_path, LARGE, Image.new("LA", (6000, 6000)), compress_level=1)
    return tmp_path


def run(folder: Path, before: Callable[[], object] | None) -> tuple[list[str], float]:
    """The lines of the error of `prepare_dataset` with two worker processes, and the seconds it took to say them."""
    start = time.monotonic()
    result = subprocess.run(
        [sys.executable, "-m", "stages.prepare_dataset"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "WEAKCLIP_WORKERS": "2", "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=before,
        timeout=300,
    )
    assert result.returncode == (1 if before else 0), result.stderr
    return result.stderr.splitlines(), time.monotonic() - start


def two_lines(said: list[str]) -> str:
    first, second = said
    assert first.startswith("error: ") and second.startswith("hint: ") and "WEAKCLIP_WORKERS=1" in second
    return first


def test_memory_that_is_refused_to_a_worker_is_said_with_its_photo(project: Path) -> None:
    before = (project / OUT / "images.csv").read_bytes()
    said, _ = run(project, lambda: resource.setrlimit(resource.RLIMIT_AS, (MOST, MOST)))
    assert LARGE in two_lines(said)
    assert (project / OUT / "images.csv").read_bytes() == before
    said, _ = run(project, None)
    assert said == [] and LARGE in (project / OUT / "images.csv").read_text()


@pytest.fixture
def little_memory() -> Iterator[Path]:
    """A control group whose processes have little memory together; joined through the file in it, where this user may."""
    version_1 = HIERARCHY / "memory"
    group = (version_1 if version_1.is_dir() else HIERARCHY) / f"little-memory-{os.getpid()}"
    try:
        group.mkdir()
        names = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes") if version_1.is_dir() else ("memory.max",)
        for name in names:
            (group / name).write_text(str(MOST_OF_ALL))
    except OSError:
        if group.is_dir():
            group.rmdir()
        pytest.skip("this user may not limit the memory of a group of processes")
    yield group
    for _ in range(100):  # its last processes may still be ending
        try:
            group.rmdir()
        except OSError:
            time.sleep(0.1)
        else:
            return


def test_a_worker_that_the_system_kills_for_memory_is_said_with_its_photo(project: Path, little_memory: Path) -> None:
    said, _ = run(project, lambda: (little_memory / "cgroup.procs").write_text(str(os.getpid())))
    assert "a worker process died (killed, or out of memory) while it worked on" in two_lines(said)
    assert LARGE in said[0]
