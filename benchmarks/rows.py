"""A figure beside its bar, the table of all figures, and the file they are stored in."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks.pairs import Pair

DIGITS = 4  # significant ones, in the file


@dataclass(frozen=True, kw_only=True)
class Row:
    """``ratio``: the figure. ``spread``: from the lowest to the highest measured, None where it was measured once.

    ``bar``: what it is held against, None where nothing was promised. ``at_least``: whether more is better.
    ``details``: what was measured, in words, and the figures behind the ratio.
    """

    name: str
    ratio: float
    spread: float | None
    bar: float | None
    at_least: bool = True
    details: Mapping[str, object] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Whether the figure, unrounded, keeps to its bar; None without one."""
        if self.bar is None:
            return None
        return self.ratio >= self.bar if self.at_least else self.ratio <= self.bar


def compared(name: str, pair: Pair, what: str, *, bar: float | None = None, **details: object) -> Row:
    """How many times faster ours is than theirs; ``what`` says in words what the two are."""
    seconds = {"seconds": significant(median(pair.ours)), "seconds_of_the_other": significant(median(pair.theirs))}
    return Row(
        name=name,
        ratio=pair.ratio,
        spread=pair.spread,
        bar=bar,
        details={"what": what, **seconds, "ratios": [significant(ratio) for ratio in pair.ratios], **details},
    )


def table(rows: Sequence[Row]) -> str:
    """The rows as aligned text, with what was measured below each name's row."""
    cells = [("name", "figure", "spread", "bar", "met"), *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(5)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    return "\n".join(lines)


def _cells(row: Row) -> tuple[str, ...]:
    spread = "-" if row.spread is None else f"{row.spread:.3g}"
    met = {None: "-", True: "yes", False: "NO"}[row.met]
    return row.name, f"{row.ratio:.4g}", spread, bar_cell(row) or "-", met


def bar_cell(row: Row) -> str:
    """What a row is held against, as ``≥ 3``; empty without a bar."""
    return "" if row.bar is None else f"{'≥' if row.at_least else '≤'} {row.bar:g}"


def content(rows: Sequence[Row]) -> dict[str, object]:
    """What JSON holds of rows: ``rows`` for comparing, ``details`` by name for understanding."""
    return {
        "rows": [
            {
                "name": row.name,
                "ratio": significant(row.ratio),
                "spread": None if row.spread is None else significant(row.spread),
                "bar": row.bar,
                "met": row.met,
            }
            for row in rows
        ],
        "details": {row.name: {"better": "more" if row.at_least else "less", **row.details} for row in rows},
    }


def parse(stored: Mapping[str, object]) -> list[Row]:
    """Rows from what `content` gave, figures as they were rounded there."""
    rows, details = stored["rows"], stored["details"]
    if not isinstance(rows, list) or not isinstance(details, dict):
        raise ValueError("expected the rows and details of benchmark results")
    found = []
    for row in rows:
        about = dict(details[row["name"]])
        better = about.pop("better")
        fields = {name: row[name] for name in ("name", "ratio", "spread", "bar")}
        found.append(Row(**fields, at_least=better == "more", details=about))
    return found


def write_json(path: Path, stored: Mapping[str, object]) -> None:
    """Write a JSON file whole or not at all."""
    part = path.with_name(f"{path.name}.part")
    with part.open("w", encoding="utf-8", newline="\n") as file:
        file.write(json.dumps(stored, indent=2, allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def repeated(rows: Iterable[Row]) -> list[str]:
    """Names that more than one row has."""
    names = [row.name for row in rows]
    return sorted({name for name in names if names.count(name) > 1})


def significant(value: float) -> float:
    """The value with `DIGITS` significant digits."""
    return float(f"{value:.{DIGITS}g}")
