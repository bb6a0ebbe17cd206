"""Run a table of parameters for several seeds; write means and spreads as JSON and Markdown after every finished stage.

What is in the file of results is not run again, and an interrupted stage goes on where it stood. The stages run directly, many
side by side, and share what they have in common: no Git and no DVC are needed, and DVC's queue is not used.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.ablation import direct
from benchmarks.ablation.figures import Figures, content, read_results, table
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
    without_dvc: Annotated[
        bool, typer.Option("--without-dvc", help="say so: the stages run directly, there is no other way yet")
    ] = False,
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

    failures = direct.run_all(wanted, known, work or out / "runs", jobs=jobs, threads=threads, finished=finished)
    write(out, rows, seeds, runs, known)
    print((out / "table.md").read_text(encoding="utf-8"))
    for failure in failures:
        print(f"failed: {failure.run.folder}\n{failure.words}")
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


if __name__ == "__main__":
    _cli.run_here(main)
