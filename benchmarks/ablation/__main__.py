"""Run a table of parameters for several seeds; write means and spreads as JSON and Markdown after every finished run.

Each row and seed is an experiment in DVC's queue, whose name tells row and seed; upper bounds, which are no stage, run directly
after them. With --without-dvc all stages run directly, each in a folder of its own, share what they have in common, and need
neither Git nor DVC. What is in the file of results, or in DVC under its name, is not run again; what was interrupted goes on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.ablation import direct, queued
from benchmarks.ablation.figures import Figures, content, costs_table, read_results, table
from benchmarks.ablation.pipeline import Run, read_stages, runs_of
from benchmarks.ablation.rows import Row, read_table
from benchmarks.machine import commit, machine, versions
from benchmarks.rows import write_json
from stages import _cli
from weakclip.progress import say


def main(
    table_file: Annotated[Path, typer.Option("--table", help="the table: benchmarks/ablation/techniques.yaml is one")],
    seeds_text: Annotated[str, typer.Option("--seeds", help="of randomness and of the mini world, such as 3,4,5")],
    out: Annotated[Path, typer.Option(help="folder for results.json and table.md")] = Path("data/ablation"),
    work: Annotated[Path | None, typer.Option(help="folder of the runs; else a folder in that of the results")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="runs side by side")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="threads and processes of each")] = 1,
    only: Annotated[list[str] | None, typer.Option(help="names of rows; else all of them")] = None,
    without_dvc: Annotated[bool, typer.Option("--without-dvc", help="run the stages directly")] = False,
) -> None:
    """Run an ablation."""
    seeds = [int(seed) for seed in seeds_text.replace(",", " ").split()]
    rows = chosen(read_table(table_file), only or [])
    stages = read_stages()
    runs = {(row.name, seed): runs_of(row, seed, stages) for row in rows for seed in seeds}
    out.mkdir(parents=True, exist_ok=True)
    known = read_results(out / "results.json")
    wanted = [run for of_row in runs.values() for run in of_row]
    keys = {run.key for run in wanted}
    say(f"{len(rows)} rows, {len(seeds)} seeds: {len(keys)} runs of stages, of which {len(keys & known.keys())} are known")

    def finished(run: Run, figures: Figures) -> None:
        known[run.key] = figures
        write(out, rows, seeds, runs, known)
        found = "".join(f"  {name}.miou {value:.2f}" for name, value in figures.miou.items())
        say(f"{run.folder}  seed {run.values['seed']}  {figures.seconds:.0f} s, {figures.cpu_seconds:.0f} CPU s{found}")

    def collected(one: queued.Experiment, figures: dict[str, Figures]) -> None:
        known.update({key: found for key, found in figures.items() if key not in known})
        write(out, rows, seeds, runs, known)
        say(
            one.name + "".join(f"  {name}.miou {value:.2f}" for found in figures.values() for name, value in found.miou.items())
        )

    failures: dict[str, str] = {}
    if not without_dvc:
        stages_of = {row.name: row for row in rows if not row.upper_bound}
        failures |= {name: words for name, row in stages_of.items() if (words := queued.refusal(row))}
        for words in failures.values():
            say(words)
        experiments = [
            queued.experiment(stages_of[name], seed, of_row)
            for (name, seed), of_row in runs.items()
            if name in stages_of and name not in failures
        ]
        failures |= queued.run_all(experiments, known, out / "workers.txt", jobs=jobs, threads=threads, finished=collected)
        wanted = [run for (name, _), of_row in runs.items() if name not in stages_of for run in of_row]
    ended = direct.run_all(wanted, known, work or out / "runs", jobs=jobs, threads=threads, finished=finished)
    failures |= {failure.run.folder: failure.words for failure in ended}
    write(out, rows, seeds, runs, known)
    print((out / "table.md").read_text(encoding="utf-8"))
    for name, words in failures.items():
        print(f"failed: {name}\n{words}")
    raise SystemExit(1 if failures else 0)


def chosen(rows: tuple[Row, ...], only: list[str]) -> tuple[Row, ...]:
    unknown = [name for name in only if name not in {row.name for row in rows}]
    if unknown:
        raise typer.BadParameter(f"{unknown[0]!r} is no row; there are {', '.join(row.name for row in rows)}")
    return tuple(row for row in rows if not only or row.name in only)


def write(
    out: Path, rows: tuple[Row, ...], seeds: list[int], runs: dict[tuple[str, int], list[Run]], known: dict[str, Figures]
) -> None:
    stored = {"machine": machine(), "versions": versions(), "commit": commit(), **content(rows, seeds, runs, known)}
    write_json(out / "results.json", stored)
    (out / "table.md").write_text(table(stored) + "\n", encoding="utf-8")
    if any(figures.cpu_seconds is not None for figures in known.values()):
        (out / "costs.md").write_text(costs_table(stored) + "\n", encoding="utf-8")


if __name__ == "__main__":
    _cli.run_here(main)
