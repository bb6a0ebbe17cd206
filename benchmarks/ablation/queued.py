"""Rows of a table as experiments in DVC's queue: one for each row and seed, found again by its name.

The name ends in a key of all that its results follow from, so what DVC has under that name need not be run again. Workers run
in the background and outlive the command that started them: the next one collects what they have done. DVC does not tell how
long processors worked, so there are no seconds.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML

from benchmarks.ablation.direct import TRUE_MASKS
from benchmarks.ablation.figures import Figures, measured
from benchmarks.ablation.pipeline import RAW, ROOT, Run
from benchmarks.ablation.rows import Row, Values
from weakclip.errors import WeakClipError
from weakclip.progress import say

PAUSE: Final = 10.0  # seconds between two looks at the queue
SILENT: Final = 6  # looks without a worker after which workers count as killed: one that is busy may miss a look
TAIL: Final = 12  # lines of a log
DVC: Final = (sys.executable, "-m", "dvc")
TASK: Final = re.compile(r"^[0-9a-f]{7}\s+(\S+)\s.*\b(Queued|Running|Failed|Success)\s*$", re.MULTILINE)
WORKERS: Final = re.compile(r"^Worker status: (\d+) active, (\d+) idle", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """``overrides``: what differs from the workspace's params.yaml, as after -S. ``runs``: those of its stages."""

    name: str
    overrides: tuple[str, ...]
    runs: tuple[Run, ...] = field(repr=False)


@dataclass(frozen=True)
class Status:
    """What `dvc queue status` tells: the state of each task by its name, and how many workers answered."""

    tasks: Mapping[str, str]
    workers: int


def experiment(row: Row, seed: int, runs: Sequence[Run]) -> Experiment:
    """The experiment of a row and a seed; ``runs`` ends with the last stage."""
    words = re.sub(r"[^a-z0-9]+", "-", row.name.lower()).strip("-")
    here: Values = YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    return Experiment(
        name=f"{words}-{seed}-{runs[-1].key[:8]}", overrides=tuple(overrides(here, row.seeded(seed))), runs=tuple(runs)
    )


def refusal(row: Row) -> str | None:
    """Why a row cannot be an experiment, in two lines; None if it can."""
    if row.values["cam"]["source"] != "import" or Path(row.values["cam"]["import_folder"]) != Path(RAW, TRUE_MASKS):
        return None
    return (
        f"error: row {row.name}: DVC has no {RAW}/{TRUE_MASKS}, for Git carries only links to photos to an experiment\n"
        "hint: `--without-dvc` runs rows with perfect seeds; `--only NAME` takes the others"
    )


def overrides(here: Mapping[str, Any], wanted: Mapping[str, Any], within: str = "") -> Iterable[str]:
    """Every value of ``wanted`` that is another than ``here``, by its dotted name, in the grammar of -S."""
    for name, value in wanted.items():
        if isinstance(value, Mapping):
            yield from overrides(here.get(name, {}), value, f"{within}{name}.")
        elif name not in here or here[name] != value:
            yield f"{within}{name}={spelled(value)}"


def spelled(value: object) -> str:
    """A value in the grammar of -S: strings in quotes, for they may be empty or look like something else."""
    if isinstance(value, list):
        return f"[{','.join(spelled(part) for part in value)}]"
    return "'" + value.replace("'", "\\'") + "'" if isinstance(value, str) else json.dumps(value)


def run_all(
    wanted: Sequence[Experiment],
    known: Mapping[str, Figures],
    log: Path,
    *,
    jobs: int,
    threads: int,
    finished: Callable[[Experiment, dict[str, Figures]], None],
) -> dict[str, str]:
    """Queue what is neither known nor in DVC, and wait for it; at most ``jobs`` at a time. ``finished`` is called after each.

    Workers write what they have to say to ``log``. What a killed worker left is queued again, once.

    Returns:
        The end of the log of each failed experiment, by its name.
    """
    left = {one.name: one for one in wanted if any(run.key not in known for run in one.runs)}
    failed: dict[str, str] = {}
    environment = surroundings(threads)

    def collect() -> None:
        for name, commit in commits().items():
            if name in left:
                one = left.pop(name)
                try:
                    figures = collected(one, commit)
                except WeakClipError as error:
                    failed[name] = f"error: {error.problem}\nhint: {error.hint}"
                else:
                    finished(one, figures)

    def queue(*, killed: bool) -> None:
        put(left.values(), status(environment), environment, killed=killed)
        start(jobs, log, environment)

    collect()
    if left:
        queue(killed=False)
    silent, again = 0, set[str]()
    while left:
        time.sleep(PAUSE)
        seen = status(environment)  # before the commits are read: what has ended by now has its commit
        collect()
        for name in [name for name in left if seen.tasks.get(name) == "Failed"]:
            failed[name] = end_of_log(name, environment)
            del left[name]
        silent = 0 if seen.workers else silent + 1
        if left and silent == SILENT:
            for name in again & left.keys():
                failed[name] = "its worker ended twice\n" + end_of_log(name, environment)
                del left[name]
            if left:
                again |= left.keys()
                queue(killed=True)
            silent = 0
    return failed


def put(experiments: Iterable[Experiment], seen: Status, environment: Mapping[str, str], *, killed: bool) -> None:
    """Queue experiments that do not wait or run already. ``killed``: those that are said to run do not."""
    for one in experiments:
        state = seen.tasks.get(one.name)
        if state == "Queued" or (state == "Running" and not killed):
            continue
        if state == "Running":  # and will for ever be said to, until it is told to end
            dvc_prints(["queue", "kill", one.name], environment, check=False)
        if state:  # one that a killed worker had taken, and not yet begun, is not known any more
            dvc_prints(["queue", "remove", one.name], environment, check=False)
        parameters = [part for override in one.overrides for part in ("--set-param", override)]
        dvc_prints(["exp", "run", "--queue", "--name", one.name, *parameters], environment)
        say(f"{one.name}  queued")


def start(jobs: int, log: Path, environment: Mapping[str, str]) -> None:
    """Start workers, unless so many are at work. They keep the outputs of who starts them, so these are no pipes."""
    with log.open("ab") as file:
        command = [*DVC, "queue", "start", "--jobs", str(jobs)]
        subprocess.run(command, cwd=ROOT, env=environment, stdout=file, stderr=file, check=True)


def status(environment: Mapping[str, str]) -> Status:
    return read_status(dvc_prints(["queue", "status"], environment))


def read_status(printed: str) -> Status:
    """What `dvc queue status` printed."""
    workers = WORKERS.search(printed)
    return Status(tasks=dict(TASK.findall(printed)), workers=sum(map(int, workers.groups())) if workers else 0)


def commits() -> dict[str, str]:
    """The commits of DVC's experiments, by name."""
    command = ["git", "for-each-ref", "--format=%(refname) %(objectname)", "refs/exps"]
    lines = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return {name.rpartition("/")[2]: commit for name, commit in (line.split() for line in lines)}


def collected(one: Experiment, commit: str) -> dict[str, Figures]:
    """The figures of an experiment's stages by the keys of their runs, read from its commit and DVC's cache."""
    from dvc import api, exceptions  # here: it takes a second, and stages that run directly may do so without DVC

    found = {}
    for run in one.runs:
        place = f"data/results/{run.stage.name}/metrics.json"
        try:
            text = api.read(place, repo=str(ROOT), rev=commit, encoding="utf-8")
        except (exceptions.DvcException, OSError) as error:
            hint = f"`dvc exp remove {one.name}` forgets it, and the same command runs it again"
            raise WeakClipError(f"the experiment {one.name} has no {place} any more: {error}", hint) from error
        found[run.key] = measured(run.stage.name, json.loads(text), cpu_seconds=None, seconds=None)
    return found


def end_of_log(name: str, environment: Mapping[str, str]) -> str:
    return "\n".join(dvc_prints(["queue", "logs", name], environment, check=False).splitlines()[-TAIL:])


def dvc_prints(arguments: Sequence[str], environment: Mapping[str, str], *, check: bool = True) -> str:
    """Run DVC in the project. Raises WeakClipError if it fails and that is not allowed for."""
    done = subprocess.run([*DVC, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if check and done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "no words").splitlines()[-1]
        hint = "see to it and run the same command again; `--without-dvc` needs neither Git nor DVC"
        raise WeakClipError(f"`dvc {' '.join(arguments[:2])}` failed: {said}", hint)
    return done.stdout


def surroundings(threads: int) -> dict[str, str]:
    """The environment of workers: this Python first on the path; so many threads and processes unless told otherwise."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1"}
    environment.setdefault("WEAKCLIP_WORKERS", str(threads))
    environment.setdefault("OMP_NUM_THREADS", str(threads))
    return environment
