"""The mini world's whole pipeline under DVC, in a scratch copy of the project, and a second run that has nothing to do."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from ruamel.yaml import YAML

from benchmarks.command import run, scratch
from benchmarks.machine import ROOT
from benchmarks.memory import stat_fields
from benchmarks.rows import Row, significant
from benchmarks.sizes import PRESETS

MINUTES: Final = 10.0
SECONDS: Final = 3.0
RUNNING: Final = re.compile(r"Running stage '(\w+)':")
QUICK: Final[Mapping[str, object]] = {
    "dataset.mini_train": 12,
    "dataset.mini_val": 6,
    "features.views": 1,
    "cam.iterations": 4,
    "cam.batch_size": 4,
    "weakclip.iterations": 4,
    "weakclip.batch_size": 2,
    "weakclip.warmup": 1,
    "weakclip.validate_every": 2,
    "weakclip.checkpoint_every": 2,
    "masks.scales": [1.0],
    "deeplab.iterations": 4,
    "deeplab.batch_size": 2,
    "deeplab.validate_every": 2,
    "deeplab.checkpoint_every": 2,
    "evaluate.gallery_size": 2,
}


@dataclass(frozen=True)
class StageTime:
    """Seconds of the clock and of the processors, DVC's own work on the stage included."""

    clock: float
    processors: float


def measure(quick: bool, rounds: int | None) -> list[Row]:
    """`dvc repro` of the mini world from nothing, then with nothing to do."""
    with scratch() as folder:
        project = folder / "project"
        copy_project(project, QUICK if quick else {})
        stages, seconds = first_run(project)
        idle = [second_run(project) for _ in range(1 + (rounds or (2 if quick else 5)))][1:]
    what = "`dvc repro` of the mini world, after installation" + (" (tiny parameters)" if quick else "")
    breakdown = {
        name: {"seconds": significant(taken.clock), "cpu_seconds": significant(taken.processors)}
        for name, taken in stages.items()
    }
    return [
        Row(
            name="mini_repro_minutes",
            ratio=seconds / 60,
            spread=None,
            bar=MINUTES,
            at_least=False,
            details={"what": f"{what}, in minutes", "stages": breakdown},
        ),
        Row(
            name="noop_repro_seconds",
            ratio=median(idle),
            spread=max(idle) - min(idle),
            bar=SECONDS,
            at_least=False,
            details={"what": "`dvc repro` with nothing to do, in seconds", "seconds": [significant(value) for value in idle]},
        ),
    ]


def copy_project(folder: Path, changes: Mapping[str, object]) -> None:
    """The files that Git knows, as they are now, in a repository of their own, with the preset mini."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        source, target = ROOT / name, folder / name
        if not os.path.lexists(source):
            continue  # deleted, and not yet committed
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target, follow_symlinks=False)
    write_params(folder / "params.yaml", changes)
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "as measured"]):
        subprocess.run(["git", *command], cwd=folder, env=surroundings(folder), check=True)


def write_params(path: Path, changes: Mapping[str, object]) -> None:
    """The preset mini with values changed by their dotted names."""
    yaml = YAML()
    values = yaml.load((PRESETS / "mini.yaml").read_text(encoding="utf-8"))
    for name, value in changes.items():
        section, key = name.split(".")
        if key not in values[section]:
            raise ValueError(f"expected a name of params.yaml, got {name}")
        values[section][key] = value
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(values, file)


def surroundings(folder: Path) -> dict[str, str]:
    """This process's environment, with this Python first on the path and nothing of the user's Git or DVC."""
    identity = {f"GIT_{who}_{what}": "benchmark" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    return {
        **os.environ,
        **identity,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONUNBUFFERED": "1",
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(folder.parent / "dvc-site"),
        "OMP_WAIT_POLICY": "PASSIVE",
        "GOMP_SPINCOUNT": "0",
    }


def first_run(folder: Path) -> tuple[dict[str, StageTime], float]:
    """Time by stage, and the seconds of the whole."""
    start = time.perf_counter()
    with subprocess.Popen(
        command(), cwd=folder, env=surroundings(folder), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        if process.stdout is None:
            raise RuntimeError("expected the output of DVC")
        marks: list[tuple[str, float, float]] = []
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line)
            if found := RUNNING.match(line):
                marks.append((found[1], time.perf_counter() - start, processor_seconds(process.pid)))
        used = processor_seconds(process.pid)  # it has closed its output, and is still there until it is waited for
    seconds = time.perf_counter() - start
    if process.returncode:
        raise RuntimeError("`dvc repro` failed:\n" + "".join(lines[-30:]))
    return stage_times(marks, seconds, used), seconds


def stage_times(marks: Sequence[tuple[str, float, float]], seconds: float, used: float) -> dict[str, StageTime]:
    """From what clock and processors said when each stage began, and at the end."""
    ends = [*((clock, processors) for _, clock, processors in marks[1:]), (seconds, used)]
    return {
        name: StageTime(clock=end[0] - clock, processors=max(0.0, end[1] - processors))
        for (name, clock, processors), end in zip(marks, ends, strict=True)
    }


def processor_seconds(process: int) -> float:
    """Of a process and all that it started and that have ended; 0 where the kernel does not tell."""
    fields = stat_fields(process) if Path("/proc/self/stat").exists() else []
    return sum(int(value) for value in fields[11:15]) / os.sysconf("SC_CLK_TCK") if fields else 0.0


def second_run(folder: Path) -> float:
    start = time.perf_counter()
    done = subprocess.run(command(), cwd=folder, env=surroundings(folder), capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - start
    if RUNNING.search(done.stdout):
        raise RuntimeError(f"expected nothing to be done:\n{done.stdout}")
    return seconds


def command() -> list[str]:
    return [sys.executable, "-m", "dvc", "repro"]


if __name__ == "__main__":
    run(measure)
