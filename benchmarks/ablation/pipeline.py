"""What runs of the pipeline have in common: each stage with all that its results follow from, as dvc.yaml tells it.

Two rows whose parameters of a stage, and of all stages before it, are the same share that stage's run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML

from benchmarks.ablation.rows import Row, Values, value_of
from weakclip.resume import fingerprint, import_closure

ROOT: Final = Path(__file__).parents[2]
UPPER_BOUND: Final = "upper_bound"
RAW: Final = "data/raw"
DIGITS: Final = 16  # of a run's key


@dataclass(frozen=True, kw_only=True)
class Stage:
    """``needs``: names of the stages whose outs it reads. ``params``: dotted names of what it reads. ``code``: its files."""

    name: str
    needs: tuple[str, ...]
    params: tuple[str, ...]
    code: tuple[Path, ...]
    outs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Run:
    """A stage with parameters. ``needs``: the runs whose outs it reads.

    ``key``: names what its results follow from; runs of one key are the same, whatever else is in their parameters.
    """

    stage: Stage = field(compare=False)
    key: str
    values: Values = field(compare=False)
    needs: tuple[Run, ...] = field(compare=False)

    @property
    def folder(self) -> str:
        return f"{self.stage.name}-{self.key}"


def read_stages() -> tuple[Stage, ...]:
    """The stages of dvc.yaml, in their order, and the upper bound, which is no stage of the pipeline."""
    described = YAML(typ="safe", pure=True).load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    stages: list[Stage] = []
    for name, content in described.items():
        deps = [dep for dep in content["deps"] if not dep.startswith(RAW)]
        data = [dep for dep in deps if dep.startswith("data/")]
        outs = tuple(out if isinstance(out, str) else next(iter(out)) for out in content["outs"])
        needs = tuple(stage.name for stage in stages if any(_overlap(dep, out) for dep in data for out in stage.outs))
        code = _files(dep for dep in deps if dep not in data)
        stages.append(Stage(name=name, needs=needs, params=tuple(content["params"]), code=code, outs=outs))
    retraining = next(stage for stage in stages if stage.name == "retrain_deeplab")
    own = import_closure(ROOT / "stages" / f"{UPPER_BOUND}.py", ROOT)  # it measures as `evaluate` does
    code = tuple(sorted({*retraining.code, *own}))
    params = ("seed", "deeplab", "evaluate")
    bound = Stage(name=UPPER_BOUND, needs=("prepare_dataset",), params=params, code=code, outs=("data/upper_bound",))
    return (*stages, bound)


def runs_of(row: Row, seed: int, stages: Sequence[Stage]) -> list[Run]:
    """The runs of a row for a seed, each after those that it needs."""
    values = row.seeded(seed)
    last = UPPER_BOUND if row.upper_bound else "evaluate"
    wanted = _with_needs(last, {stage.name: stage for stage in stages})
    made: dict[str, Run] = {}
    for stage in stages:
        if stage.name in wanted:
            needs = tuple(made[name] for name in stage.needs)
            params: dict[str, Any] = {name: value_of(values, name, row.name) for name in stage.params}
            params["needs"] = [run.key for run in needs]
            key = fingerprint(stage=stage.name, params=params, inputs=[], code=stage.code)[:DIGITS]
            made[stage.name] = Run(stage=stage, key=key, values=values, needs=needs)
    return list(made.values())


def _with_needs(name: str, stages: dict[str, Stage]) -> set[str]:
    return {name}.union(*(_with_needs(need, stages) for need in stages[name].needs))


def _files(paths: Any) -> tuple[Path, ...]:
    places = [ROOT / path for path in paths]
    files = [file for place in places for file in (place.rglob("*.py") if place.is_dir() else [place])]
    return tuple(sorted(files))


def _overlap(one: str, other: str) -> bool:
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")
