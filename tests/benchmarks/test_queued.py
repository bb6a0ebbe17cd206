"""What an ablation asks of DVC's queue, and what it reads of it. tests/pipeline/test_ablation.py runs a table in it."""

import shutil
from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides
from ruamel.yaml import YAML

from benchmarks.ablation import queued
from benchmarks.ablation.figures import Figures
from benchmarks.ablation.pipeline import Run, Stage, read_stages, runs_of
from benchmarks.ablation.queued import Experiment, Status, experiment, overrides, read_status, refusal, spelled
from benchmarks.ablation.rows import Row, Values, changed, read_recipe, read_table
from tests.conftest import ROOT

PRINTED = """Task     Name              Created       Status
7bc0ea2  best-3-0a1b2c3d   02:16 PM      Running
5b3f0e5  best-4-99887766   Nov 25, 2026  Failed
1234567  rate-1            02:16 PM      Queued

Worker status: 1 active, 2 idle
"""


def yaml_of(path: Path) -> Values:
    values: Values = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    return values


@pytest.mark.parametrize(("preset", "recipe"), [("mini", "best"), ("voc12", "repaired"), ("coco14", "best")])
def test_overrides_make_the_parameters_of_the_workspace_those_of_the_row(tmp_path: Path, preset: str, recipe: str) -> None:
    path = tmp_path / "params.yaml"
    shutil.copyfile(ROOT / "weakclip" / "presets" / "mini.yaml", path)
    awkward = {"cam.template": "it's a {}, 'photo' of [1, 2]", "cam.descriptions": "", "crf.tag_limited": False, "lr": 1e-9}
    wanted = changed(read_recipe(preset, recipe, {}), awkward, "row")
    changes = list(overrides(yaml_of(path), wanted))
    assert not any(change.startswith("masks.flip=") for change in changes)  # as it is
    apply_overrides(path, changes)
    assert yaml_of(path) == wanted
    assert list(overrides(yaml_of(path), wanted)) == []


def test_values_are_spelled_as_the_grammar_has_them() -> None:
    assert spelled([1, 0.5, True, "a"]) == "[1,0.5,true,'a']"
    assert spelled("it's") == r"'it\'s'"


def test_an_experiment_is_named_by_row_seed_and_all_that_its_results_follow_from(tmp_path: Path) -> None:
    stages = read_stages()
    values = read_recipe("mini", "repaired", {})
    other = changed(values, {"evaluate.flip": False}, "row")
    one, same, seeded, mirrored = (
        experiment(row, seed, runs_of(row, seed, stages))
        for row, seed in [
            (Row(name="Best without (a) b", values=values), 3),
            (Row(name="Best without (a) b", values=values), 3),
            (Row(name="Best without (a) b", values=values), 4),
            (Row(name="Best without (a) b", values=other), 3),
        ]
    )
    assert one.name.startswith("best-without-a-b-3-") and seeded.name.startswith("best-without-a-b-4-")
    assert one.name == same.name and len({one.name, seeded.name, mirrored.name}) == 3
    assert one.overrides[:2] == ("seed=3", "dataset.mini_world=3") and "evaluate.flip=false" in mirrored.overrides


def test_only_seeds_that_dvc_does_not_carry_are_refused() -> None:
    rows = read_table(ROOT / "benchmarks" / "ablation" / "techniques.yaml")
    refused = {row.name: words for row in rows if (words := refusal(row))}
    assert list(refused) == ["perfect seeds", "perfect seeds of repaired"]
    first, second = refused["perfect seeds"].splitlines()
    assert first.startswith("error: row perfect seeds: ") and second.startswith("hint: `--without-dvc`")


def test_the_state_of_the_queue_is_read() -> None:
    tasks = {"best-3-0a1b2c3d": "Running", "best-4-99887766": "Failed", "rate-1": "Queued"}
    assert read_status(PRINTED) == Status(tasks=tasks, workers=3)
    assert read_status("No experiment tasks in the queue.\n\nWorker status: 0 active, 0 idle\n") == Status({}, 0)


def test_what_a_killed_worker_left_is_queued_again_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(name="evaluate", needs=(), params=(), code=(), outs=())
    one, other = (
        Experiment(name=name, overrides=("lr=1",), runs=(Run(stage=stage, key=name, values={}, needs=()),)) for name in "ab"
    )
    asked: list[str] = []
    state = {"a": "Running"}  # since a former call whose worker was killed

    def dvc_prints(arguments: list[str], *_: object, **__: object) -> str:
        asked.append(" ".join(arguments))
        if arguments[:2] == ["exp", "run"]:
            state[arguments[4]] = "Queued"
        lines = [f"0000000  {name}  02:16 PM  {said}" for name, said in state.items()]
        return "\n".join([*lines, "Worker status: 0 active, 0 idle"]) if arguments[1] == "status" else f"log of {arguments[-1]}"

    done: dict[str, str] = {}
    started: list[int] = []

    def start(jobs: int, *_: object) -> None:
        started.append(jobs)
        if len(started) == 2:
            done["b"] = "commit"

    monkeypatch.setattr(queued, "PAUSE", 0)
    monkeypatch.setattr(queued, "dvc_prints", dvc_prints)
    monkeypatch.setattr(queued, "start", start)
    monkeypatch.setattr(queued, "commits", lambda: done)
    monkeypatch.setattr(queued, "collected", lambda one, commit: {})
    finished: list[str] = []
    failed = queued.run_all(
        [one, other], {}, tmp_path / "log", jobs=2, threads=1, finished=lambda one, _: finished.append(one.name)
    )
    assert finished == ["b"] and failed == {"a": "its worker ended twice\nlog of a"} and started == [2, 2]
    changes = [command for command in asked if not command.startswith(("queue status", "queue logs"))]
    queue = "exp run --queue --name {} --set-param lr=1"
    assert changes == [queue.format("b"), "queue kill a", "queue remove a", queue.format("a")]
    monkeypatch.setattr(queued, "dvc_prints", lambda *_, **__: pytest.fail("what is known is not asked for"))
    known = {"a": Figures(stage="evaluate", miou={}, metrics={}, cpu_seconds=None, seconds=None)}
    assert queued.run_all([one], known, tmp_path / "log", jobs=1, threads=1, finished=lambda *_: None) == {}
