"""The ablation's rows, what its runs share, its figures, and a tiny table through the stages themselves."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.ablation import direct
from benchmarks.ablation.__main__ import write
from benchmarks.ablation.figures import Figures, content, costs, costs_table, read_results, spread, summed, table
from benchmarks.ablation.pipeline import Run, Stage, read_stages, runs_of
from benchmarks.ablation.rows import Row, read_table, value_of
from tests.conftest import ROOT, TINY
from weakclip.errors import WeakClipError

STAGES = read_stages()
EXAMPLE = ROOT / "benchmarks" / "ablation" / "techniques.yaml"


def written(folder: Path, text: str) -> Path:
    path = folder / "table.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def tiny_rows(folder: Path, rows: str) -> tuple[Row, ...]:
    return read_table(written(folder, f"preset: mini\nbase: {json.dumps(TINY)}\nrows: [{rows}]\n"))


def test_rows_take_a_technique_from_the_other_recipe(tmp_path: Path) -> None:
    rows = {row.name: row.values for row in read_table(written(tmp_path, "preset: mini\ntechniques: {a b: [deeplab.ema]}\n"))}
    assert list(rows) == ["repaired", "best", "best without a b", "repaired with a b"]
    ema = {name: values["deeplab"]["ema"] for name, values in rows.items()}
    assert ema["best"] == ema["repaired with a b"] > ema["repaired"] == ema["best without a b"] == 0
    assert rows["repaired with a b"] == rows["repaired"] | {"deeplab": rows["repaired"]["deeplab"] | {"ema": ema["best"]}}


def test_the_techniques_of_the_example_are_all_that_best_does_otherwise() -> None:
    rows = {row.name: row.values for row in read_table(EXAMPLE)}
    names = [name for name in rows if name.startswith("repaired with ")]
    merged = {
        f"{section}.{key}": value
        for name in names
        for section, content in rows[name].items()
        if isinstance(content, dict)
        for key, value in content.items()
        if value != rows["repaired"][section].get(key)
    }
    differing = {
        f"{section}.{key}": value
        for section, content in rows["best"].items()
        if isinstance(content, dict)
        for key, value in content.items()
        if value != rows["repaired"][section][key]
    }
    assert merged == differing
    assert rows["best"]["lr"] == rows["repaired"]["lr"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("preset: mini\nrows: [{name: a, set: {deeplab.emu: 1}}]", "row a: there is no parameter deeplab.emu"),
        ("preset: mini\nrows: [{name: a, set: {deeplab.ema: high}}]", "row a: .*deeplab.ema"),
        ("preset: mini\nrows: [{name: a}, {name: a}]", "two rows of one name"),
        ("preset: mini\nrows: [{called: a}]", "is no row"),
        ("preset: mini\nrow: []", "is no table"),
        ("preset: tiny\nrows: [{name: a}]", "the preset tiny has no recipe repaired"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(WeakClipError, match=problem):
        read_table(written(tmp_path, text))


def test_seeds_are_of_the_randomness_and_of_the_world(tmp_path: Path) -> None:
    values = tiny_rows(tmp_path, "{name: a}")[0].seeded(5)
    assert value_of(values, "seed", "a") == value_of(values, "dataset.mini_world", "a") == 5


def test_rows_share_the_stages_before_their_difference(tmp_path: Path) -> None:
    rows = tiny_rows(tmp_path, "{name: a}, {name: b, set: {deeplab.ema: 0.9}}, {name: c, upper_bound: true}")
    plain, averaged, bound = ({run.stage.name: run.key for run in runs_of(row, 3, STAGES)} for row in rows)
    assert {name for name in plain if plain[name] != averaged[name]} == {"retrain_deeplab", "evaluate"}
    assert set(bound) == {"prepare_dataset", "upper_bound"} and bound["prepare_dataset"] == plain["prepare_dataset"]
    assert len({run for row in rows for run in runs_of(row, 3, STAGES)}) == len(plain) + 2 + 1
    other = {run.stage.name: run.key for run in runs_of(rows[0], 4, STAGES)}
    assert not set(other.values()) & set(plain.values())


def test_stages_need_those_whose_outs_they_read() -> None:
    needs = {stage.name: stage.needs for stage in STAGES}
    assert needs["prepare_dataset"] == () and needs["cache_features"] == ("prepare_dataset",)
    assert needs["refine_masks"] == ("prepare_dataset", "generate_masks")
    assert set(needs["evaluate"]) >= {"train_cam", "generate_masks", "refine_masks", "retrain_deeplab"}
    assert needs["upper_bound"] == ("prepare_dataset",)


def figures(stage: str, cpu: float, **miou: float) -> Figures:
    return Figures(stage=stage, miou=miou, metrics={}, cpu_seconds=cpu, seconds=cpu)


def test_means_and_half_ranges_are_over_the_seeds(tmp_path: Path) -> None:
    rows = (Row(name="a", values={}), Row(name="b", values={}))
    stage = replace(STAGES[0], needs=())
    runs = {
        (row.name, seed): [Run(stage=stage, key=f"{row.name}{seed}", values={}, needs=())] for row in rows for seed in (3, 4, 5)
    }
    known = {"a3": figures("x", 10, val=50.0), "a4": figures("x", 20, val=53.0), "a5": figures("x", 30, val=56.0)}
    known["b3"] = figures("x", 7, val=60.0)
    stored = content(rows, (3, 4, 5), runs, known)
    assert stored["rows"]["a"]["val"] == {"mean": 53.0, "half_range": 3.0, "n": 3}
    lines = table(stored).splitlines()
    assert lines[2] == "| a |  |  |  | 53.0 ± 3.0 | 20 ± 10 |"
    assert lines[3] == "| b |  |  |  | 60.0 ± 0.0 (n = 1) | 7 ± 0 (n = 1) |"
    write(tmp_path, rows, [3, 4, 5], runs, known)
    assert read_results(tmp_path / "results.json") == known


def test_costs_are_means_over_the_seeds() -> None:
    known = [replace(figures("x", 10), disk_bytes=3_000_000), replace(figures("x", 20), disk_bytes=5_000_000), figures("y", 1)]
    told = costs([*known, Figures(stage="z", miou={}, metrics={}, cpu_seconds=None, seconds=None)])
    assert told == {"x": {"cpu_seconds": 15, "disk_bytes": 4_000_000}, "y": {"cpu_seconds": 1}}
    lines = costs_table(
        {"rows": {"a": {"costs": told}, "b": {"costs": {"y": {"cpu_seconds": 2.0}}}, "queued": {}}}
    ).splitlines()
    assert lines[0] == "| CPU s | x | y | MB |"
    assert lines[2:] == ["| a | 15.0 | 1.0 | 4.0 |", "| b |  | 2.0 | 0.0 |"]


def test_a_row_is_summed_over_its_stages() -> None:
    assert summed([figures("x", 1.5, seed=40.0), figures("y", 2.0, val=60.0)]) == {
        "seed": 40.0,
        "val": 60.0,
        "cpu_seconds": 3.5,
    }
    assert spread([]) is None


def test_what_is_known_is_not_run_again_and_a_failure_stops_only_what_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stage(name: str) -> Stage:
        return Stage(name=name, needs=(), params=(), code=(), outs=())

    first = Run(stage=stage("first"), key="1", values={}, needs=())
    bad = Run(stage=stage("bad"), key="2", values={}, needs=(first,))
    after_bad = Run(stage=stage("after_bad"), key="3", values={}, needs=(bad,))
    good = Run(stage=stage("good"), key="4", values={}, needs=(first,))
    ran: list[str] = []

    def execute(run: Run, work: Path, *_: object) -> Figures:
        ran.append(run.stage.name)
        if run is bad:
            raise direct.subprocess.CalledProcessError(1, "bad", "error: bad")
        return figures(run.stage.name, 1)

    monkeypatch.setattr(direct, "execute", execute)
    known: dict[str, Figures] = {}
    wanted = [first, bad, after_bad, good]

    def run_all() -> list[direct.Failure]:
        return direct.run_all(
            wanted, known, tmp_path, jobs=2, threads=1, finished=lambda run, found: known.update({run.key: found})
        )

    assert [(failure.run.key, failure.words) for failure in run_all()] == [("2", "error: bad")]
    assert sorted(ran) == ["bad", "first", "good"] and known.keys() == {"1", "4"}
    ran.clear()
    run_all()
    assert ran == ["first", "bad"]  # the outs of the first are gone: its folder has no mark
    (tmp_path / first.folder).mkdir()
    (tmp_path / first.folder / direct.DONE).touch()
    ran.clear()
    run_all()
    assert ran == ["bad"]


def test_a_tiny_table_runs_through_the_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.ablation.__main__ import main

    monkeypatch.setenv("WEAKCLIP_WORKERS", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("WEAKCLIP_DEVICE", "cpu")
    perfect = "{name: perfect, set: {cam.source: import, cam.import_folder: data/raw/true_masks}}"
    path = written(tmp_path, f"preset: mini\nbase: {json.dumps(TINY)}\nrows: [{perfect}, {{name: bound, upper_bound: true}}]\n")

    import typer

    app = typer.Typer()
    app.command()(main)
    command = ["--table", str(path), "--seeds", "3", "--out", str(tmp_path / "out"), "--without-dvc"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    stored = json.loads((tmp_path / "out" / "results.json").read_text())
    assert stored["rows"]["perfect"]["seed"]["mean"] == 100.0
    assert {"pseudo", "refined", "val", "cpu_seconds"} <= stored["rows"]["perfect"].keys()
    assert stored["rows"]["bound"].keys() == {"val", "cpu_seconds", "seeds", "costs"}
    assert len(stored["runs"]) == 9
    prepared = next((tmp_path / "out" / "runs").glob("prepare_dataset-*")) / "data"
    there = [path for out in ("dataset", "results") for path in (prepared / out).rglob("*") if path.is_file()]
    told = stored["rows"]["perfect"]["costs"]["prepare_dataset"]["disk_bytes"]
    assert told == sum(path.stat().st_size for path in there) > 100_000
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 0 and "of which 9 are known" in again.output
