"""A tiny ablation as experiments in DVC's queue, in a project that has run."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conftest import ROOT, TINY, Project

ROWS = "{name: strict gate, set: {crf.gate: 0.99}}, {name: not mirrored, set: {evaluate.flip: false}}"


@pytest.fixture(scope="module")
def ablated(reproduced: Project) -> Iterator[Project]:
    """The project with the harness beside it; workers do not outlive the test."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "benchmarks", reproduced.folder / "benchmarks", ignore=ignored)
    reproduced.commit()
    yield reproduced
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has just ended, or is another user's
            if (entry / "cwd").readlink().is_relative_to(reproduced.folder):
                os.kill(int(entry.name), signal.SIGKILL)


def run_table(project: Project, rows: str, *options: str) -> subprocess.CompletedProcess[str]:
    path = project.folder.parent / "table.yaml"
    path.write_text(f"preset: mini\nbase: {json.dumps(TINY)}\nrows: [{rows}]\n", encoding="utf-8")
    command = ["-m", "benchmarks.ablation", "--table", str(path), "--seeds", "0", *options]
    return project.run("python", *command, check=False)


def metrics(project: Project, commit: str) -> object:
    return json.loads(project.run("git", "show", f"{commit}:data/results/evaluate/metrics.json").stdout)


@pytest.mark.slow
def test_rows_run_in_the_queue_once_and_leave_the_workspace_alone(ablated: Project) -> None:
    done = run_table(ablated, ROWS, "--jobs", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    stored = json.loads((ablated.folder / "data/ablation/results.json").read_text())
    refs = ablated.run("git", "for-each-ref", "--format=%(refname:lstrip=-1) %(objectname)", "refs/exps").stdout
    found = {name.rpartition("-0-")[0]: commit for name, commit in (line.split() for line in refs.splitlines())}
    assert {"strict-gate", "not-mirrored"} <= found.keys()
    for row, name in (("strict gate", "strict-gate"), ("not mirrored", "not-mirrored")):
        figures = stored["rows"][row]
        assert {"seed", "pseudo", "refined", "val"} == figures.keys() - {"seeds"}  # DVC tells no seconds
        said = metrics(ablated, found[name])
        assert isinstance(said, dict) and figures["val"]["mean"] == round(said["val"]["miou"], 3)
    assert "| strict gate |" in (ablated.folder / "data/ablation/table.md").read_text()
    assert ablated.run("git", "status", "--porcelain").stdout == ""

    again = run_table(ablated, ROWS)
    assert again.returncode == 0 and again.stdout.count("mirrored") == 1  # in the table alone
    (ablated.folder / "data/ablation/results.json").unlink()
    anew = run_table(ablated, ROWS)
    assert anew.returncode == 0 and "not-mirrored-0-" in anew.stdout
    assert json.loads((ablated.folder / "data/ablation/results.json").read_text())["rows"] == stored["rows"]
    assert ablated.dvc("queue", "status").count("Success") == 2


@pytest.mark.slow
def test_what_fails_or_cannot_be_run_so_is_named(ablated: Project) -> None:
    lost = "{name: lost, set: {cam.source: import, cam.import_folder: data/raw/nowhere}}"
    perfect = "{name: perfect, set: {cam.source: import, cam.import_folder: data/raw/true_masks}}"
    done = run_table(ablated, f"{lost}, {perfect}, {{name: bound, upper_bound: true}}", "--out", "data/ablation/other")
    assert done.returncode == 1
    assert "failed: lost-0-" in done.stdout and "data/raw/nowhere" in done.stdout.partition("failed: lost-0-")[2]
    assert "failed: perfect\nerror: row perfect: " in done.stdout
    stored = json.loads((ablated.folder / "data/ablation/other/results.json").read_text())
    assert stored["rows"]["bound"].keys() == {"val", "cpu_seconds", "seeds", "costs"}
    assert stored["rows"]["lost"].keys() == {"seeds", "costs"}
    assert stored["rows"]["lost"]["costs"].keys() == {"prepare_dataset"}  # which the bound, run directly, needs as well
    assert "val" not in stored["rows"]["perfect"]
