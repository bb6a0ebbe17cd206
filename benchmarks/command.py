"""A benchmark as a command: its options, its table, its file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.kept import keep, stamped
from benchmarks.machine import ROOT
from benchmarks.rows import Row, table

Measure = Callable[[bool, int | None], Sequence[Row]]
"""(quick, rounds) -> rows; rounds None: as many as the benchmark takes by itself."""


def run(measure: Measure) -> None:
    """Run a benchmark with this process's arguments, print its table and, if asked to, write its results."""

    def main(
        quick: Annotated[bool, typer.Option("--quick", help="a tiny size, to see that it works: figures mean nothing")] = False,
        rounds: Annotated[int | None, typer.Option(min=1, help="rounds that count")] = None,
        out: Annotated[Path | None, typer.Option(help="JSON file for the results; other rows in it stay")] = None,
    ) -> None:
        rows = measure(quick, rounds)
        print(table(rows), flush=True)
        if out is not None:
            keep(out, stamped(rows))

    main.__doc__ = measure.__doc__
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(main)
    app()


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder that is gone afterwards, on the disk that the pipeline works on: a system's own may be memory."""
    home = ROOT / ".resume"
    home.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=home) as folder:
        yield Path(folder)
