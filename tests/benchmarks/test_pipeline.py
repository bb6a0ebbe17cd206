"""How the pipeline's run is timed, with a script in DVC's place; and the copy of the project that it runs in."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import pipeline
from benchmarks.machine import ROOT
from benchmarks.pipeline import StageTime, stage_times
from weakclip.params import load

BUSY = """
import subprocess, sys
for name in ("prepare", "train"):
    print(f"Running stage '{name}':")
    subprocess.run([sys.executable, "-c", "sum(range(10**7))"], check=True)
"""


def in_place_of_dvc(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    monkeypatch.setattr(pipeline, "command", lambda: [sys.executable, "-c", script])


def test_a_stage_ends_when_the_next_one_begins() -> None:
    marks = [("prepare", 2.0, 1.0), ("train", 5.0, 6.5)]
    assert stage_times(marks, 9.0, 10.0) == {
        "prepare": StageTime(clock=3.0, processors=5.5),
        "train": StageTime(clock=4.0, processors=3.5),
    }


def test_every_stage_has_the_time_of_its_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_place_of_dvc(monkeypatch, BUSY)
    stages, seconds = pipeline.first_run(tmp_path)
    assert list(stages) == ["prepare", "train"]
    assert all(0 < stage.clock < seconds for stage in stages.values())
    if Path("/proc/self/stat").exists():
        assert all(0.02 < stage.processors <= 1.1 * stage.clock + 0.1 for stage in stages.values())


def test_a_run_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_place_of_dvc(monkeypatch, "raise SystemExit('no space')")
    with pytest.raises(RuntimeError, match="no space"):
        pipeline.first_run(tmp_path)


def test_a_second_run_that_does_something_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_place_of_dvc(monkeypatch, "print('Data and pipelines are up to date.')")
    assert 0 < pipeline.second_run(tmp_path) < 60
    in_place_of_dvc(monkeypatch, "print(\"Running stage 'train':\")")
    with pytest.raises(RuntimeError, match="expected nothing to be done"):
        pipeline.second_run(tmp_path)


def test_the_copy_is_a_clean_checkout_of_the_files_as_they_are(tmp_path: Path) -> None:
    project = tmp_path / "project"
    pipeline.copy_project(project, {"dataset.mini_train": 12})
    assert load(project / "params.yaml").dataset.mini_train == 12
    file = Path("weakclip", "crf.py")
    assert (project / file).read_bytes() == (ROOT / file).read_bytes()
    assert (project / "data" / "raw" / "photos").readlink() == Path("local")
    status = subprocess.run(["git", "status", "--porcelain"], cwd=project, capture_output=True, text=True, check=True)
    assert status.stdout == ""


def test_only_parameters_can_be_changed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mini_trian"):
        pipeline.write_params(tmp_path / "params.yaml", {"dataset.mini_trian": 12})
