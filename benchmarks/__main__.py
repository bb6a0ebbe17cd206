"""Run every benchmark that needs nothing but the project, each in a process of its own; print the table and store it.

Rows go into `benchmarks/results.json` after each of them, and at the end into the table of `docs/performance.md`; each names
the commit that it was measured at. One that fails is named at the end, and its former rows stay. So do those of
`benchmarks.growth`, which is run by itself: `python -m benchmarks.growth --out benchmarks/results.json`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Final

import typer

from benchmarks.command import scratch
from benchmarks.kept import keep, kept, shown, write
from benchmarks.machine import PAGE, RESULTS, ROOT
from benchmarks.rows import Row, parse, repeated, table

PARTS: Final = ("pipeline", "store", "scoring", "crf", "caching", "train_step", "micro_batches", "mask_generation")


def main(
    quick: Annotated[bool, typer.Option("--quick", help="tiny sizes, to see that all works; nothing is stored")] = False,
    out: Annotated[Path | None, typer.Option(help="JSON file for the results")] = None,
) -> None:
    """Run every benchmark that needs nothing but the project."""
    target = out or (None if quick else RESULTS)
    rows: list[Row] = []
    failed = []
    with scratch() as folder:
        for part in PARTS:
            start = time.monotonic()
            print(f"{part} ...", flush=True)
            found = run_part(part, folder / f"{part}.json", quick)
            if found is None:
                failed.append(part)
                continue
            rows += found
            print(f"{part}: {time.monotonic() - start:.0f} s", flush=True)
            if target is not None:
                keep(target, found)
    if twice := repeated(rows):
        raise ValueError(f"expected each name once, got {', '.join(twice)} again")
    print(f"\n{table(rows)}")
    if target is not None:
        if not failed:  # what no benchmark measures any more goes
            write(target, [*rows, *growth_rows(target)])
        if target == RESULTS:
            PAGE.write_text(shown(PAGE.read_text(encoding="utf-8"), kept(target)), encoding="utf-8")
        print(f"\nwrote {target}")
    if failed:
        print(f"\nfailed: {', '.join(failed)}", file=sys.stderr)
        raise SystemExit(1)


def growth_rows(stored: Path) -> list[Row]:
    """Those that a file of results has of how memory grows with the images."""
    return [row for row in kept(stored) if row.name.startswith("growth_")]


def run_part(part: str, out: Path, quick: bool) -> list[Row] | None:
    """The rows of a benchmark, or None if it fails."""
    command = [sys.executable, "-m", f"benchmarks.{part}", "--out", str(out), *(["--quick"] if quick else [])]
    if subprocess.run(command, cwd=ROOT, check=False, stdout=subprocess.DEVNULL).returncode:
        return None
    return parse(json.loads(out.read_text(encoding="utf-8")))


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(main)
    app()
