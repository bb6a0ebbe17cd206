"""What runs gave, their means and spreads over the seeds, and the table of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Final

from benchmarks.ablation.pipeline import UPPER_BOUND, Run
from benchmarks.ablation.rows import Row

COLUMNS: Final = ("seed", "pseudo", "refined", "val")
MEASURED: Final = {"train_cam": "seed", "generate_masks": "pseudo", "refine_masks": "refined", "evaluate": "val"}


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Of a stage's run. ``miou``: percent by column of the table. ``metrics``: all that the stage measured.

    ``disk_bytes``: of the files that it wrote. It, ``cpu_seconds`` and ``seconds`` are None where DVC ran the stage, which does
    not tell.
    """

    stage: str
    miou: dict[str, float]
    metrics: dict[str, Any]
    cpu_seconds: float | None
    seconds: float | None
    disk_bytes: int | None = None


def figures_of(run: Run, folder: Path, *, cpu_seconds: float, seconds: float) -> Figures:
    """Read the metrics that a run has written into its folder."""
    name = run.stage.name
    place = "data/upper_bound/metrics.json" if name == UPPER_BOUND else f"data/results/{name}/metrics.json"
    metrics = json.loads((folder / place).read_text(encoding="utf-8"))
    found = measured(name, metrics, cpu_seconds=round(cpu_seconds, 2), seconds=round(seconds, 2))
    return replace(found, disk_bytes=sum(disk_bytes(folder / out) for out in run.stage.outs))


def disk_bytes(place: Path) -> int:
    """Of the files in a folder, or of a file."""
    return sum(path.stat().st_size for path in (place, *place.rglob("*")) if path.is_file())


def measured(name: str, metrics: dict[str, Any], *, cpu_seconds: float | None, seconds: float | None) -> Figures:
    """What the metrics of a stage say to the table."""
    column = "val" if name == UPPER_BOUND else MEASURED.get(name)
    block = metrics.get(column, {}) if column else {}
    miou = {column: float(block["miou"])} if column and "miou" in block else {}
    return Figures(stage=name, miou=miou, metrics=metrics, cpu_seconds=cpu_seconds, seconds=seconds)


def read_results(path: Path) -> dict[str, Figures]:
    """Figures of former runs by key; none where there is no file."""
    if not path.is_file():
        return {}
    stored = json.loads(path.read_text(encoding="utf-8"))["runs"]
    return {key: Figures(**figures) for key, figures in stored.items()}


def content(
    rows: Sequence[Row], seeds: Sequence[int], runs: Mapping[tuple[str, int], Sequence[Run]], known: Mapping[str, Figures]
) -> dict[str, Any]:
    """What the file of results holds: a summary by row, the figures of each seed, and those of each run."""
    summary = {}
    for row in rows:
        of_seed = {seed: summed([known[run.key] for run in runs[row.name, seed] if run.key in known]) for seed in seeds}
        whole = [seed for seed in seeds if all(run.key in known for run in runs[row.name, seed])]
        names = (*COLUMNS, "cpu_seconds")
        spreads = {name: spread([of_seed[seed][name] for seed in seeds if name in of_seed[seed]]) for name in COLUMNS}
        spreads["cpu_seconds"] = spread([of_seed[seed]["cpu_seconds"] for seed in whole if "cpu_seconds" in of_seed[seed]])
        summary[row.name] = {
            **{name: spreads[name] for name in names if spreads[name] is not None},
            "seeds": {str(seed): of_seed[seed] for seed in seeds},
            **({"costs": told} if (told := costs(_known(runs, row, seeds, known))) else {}),
        }
    return {"seeds": list(seeds), "rows": summary, "runs": {key: asdict(known[key]) for key in sorted(known)}}


def summed(figures: Sequence[Figures]) -> dict[str, float]:
    """Of the stages of one row and seed: mIoU by name, and their processors' seconds together where all are told."""
    found: dict[str, float] = {}
    for stage in figures:
        found |= stage.miou
    seconds = [stage.cpu_seconds for stage in figures if stage.cpu_seconds is not None]
    return {**found, "cpu_seconds": round(sum(seconds), 1)} if len(seconds) == len(figures) else found


def costs(figures: Sequence[Figures]) -> dict[str, dict[str, float]]:
    """By stage, if it tells them: the mean of its processors' seconds and of the bytes that it wrote."""
    found: dict[str, dict[str, float]] = {}
    for stage in dict.fromkeys(one.stage for one in figures):
        seconds = [one.cpu_seconds for one in figures if one.stage == stage and one.cpu_seconds is not None]
        written = [one.disk_bytes for one in figures if one.stage == stage and one.disk_bytes is not None]
        told = {"cpu_seconds": round(fmean(seconds), 2)} if seconds else {}
        told |= {"disk_bytes": round(fmean(written))} if written else {}
        if told:
            found[stage] = told
    return found


def _known(
    runs: Mapping[tuple[str, int], Sequence[Run]], row: Row, seeds: Sequence[int], known: Mapping[str, Figures]
) -> list[Figures]:
    return [known[run.key] for seed in seeds for run in runs[row.name, seed] if run.key in known]


def spread(values: Sequence[float]) -> dict[str, float] | None:
    """Mean, half the range, and their number."""
    if not values:
        return None
    return {
        "mean": round(sum(values) / len(values), 3),
        "half_range": round((max(values) - min(values)) / 2, 3),
        "n": len(values),
    }


def table(stored: Mapping[str, Any]) -> str:
    """The summary in Markdown: mean ± half the range; n where it is not the number of seeds."""
    count = len(stored["seeds"])
    lines = [f"| | {' | '.join(f'{name}.miou' for name in COLUMNS)} | CPU s |", f"| --- |{' --- |' * (len(COLUMNS) + 1)}"]
    for name, row in stored["rows"].items():
        cells = [_cell(row.get(column), count, 1) for column in COLUMNS] + [_cell(row.get("cpu_seconds"), count, 0)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def costs_table(stored: Mapping[str, Any]) -> str:
    """CPU seconds of each stage, and megabytes that all of them wrote, in Markdown; means over the seeds."""
    rows = {name: row["costs"] for name, row in stored["rows"].items() if "costs" in row}
    stages = list(dict.fromkeys(stage for row in rows.values() for stage in row))
    lines = [f"| CPU s | {' | '.join(stages)} | MB |", f"| --- |{' --- |' * (len(stages) + 1)}"]
    for name, row in rows.items():
        cells = [f"{row[stage]['cpu_seconds']:.1f}" if "cpu_seconds" in row.get(stage, {}) else "" for stage in stages]
        megabytes = sum(stage.get("disk_bytes", 0) for stage in row.values()) / 1e6
        lines.append(f"| {name} | {' | '.join(cells)} | {megabytes:.1f} |")
    return "\n".join(lines)


def _cell(figure: Mapping[str, float] | None, count: int, digits: int) -> str:
    if figure is None:
        return ""
    text = f"{figure['mean']:.{digits}f} ± {figure['half_range']:.{digits}f}"
    return text if figure["n"] == count else f"{text} (n = {figure['n']})"
