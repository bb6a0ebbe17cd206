"""Where figures are kept: a file of results, whose rows may be of several runs, and the page that shows them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from benchmarks.machine import commit, machine, versions
from benchmarks.rows import Row, bar_cell, content, parse, write_json

LINE: Final = re.compile(r"\| `(?P<name>\w+)` \| (?P<what>[^|]*) \|(?: [^|]*\|){4}")


def stamped(rows: Sequence[Row]) -> list[Row]:
    """Rows that have just been measured, each with the commit that it is of."""
    return [replace(row, details={**row.details, "commit": commit()}) for row in rows]


def keep(path: Path, rows: Sequence[Row]) -> None:
    """Put stamped rows into a file of results. Its other rows stay, if they were measured on the same machine."""
    write(path, merged(kept(path), rows))


def write(path: Path, rows: Sequence[Row]) -> None:
    """Make these the rows of a file of results."""
    write_json(path, {"machine": machine(), "versions": versions(), "commit": commit(), **content(rows)})


def kept(path: Path) -> list[Row]:
    """The rows of a file of results, if it is there and of this machine."""
    if not path.exists():
        return []
    stored = json.loads(path.read_text(encoding="utf-8"))
    return parse(stored) if _hardware(stored["machine"]) == _hardware(machine()) else []


def merged(old: Sequence[Row], new: Sequence[Row]) -> list[Row]:
    """The old rows, each replaced by the new one of its name where there is one, and then the others of the new ones."""
    fresh = {row.name: row for row in new}
    names = {row.name for row in old}
    return [*(fresh.get(row.name, row) for row in old), *(row for row in new if row.name not in names)]


def shown(page: str, rows: Sequence[Row]) -> str:
    """The page with the figures of these rows in the lines of its table that begin with their names; words stay."""
    by_name = {row.name: row for row in rows}

    def line(found: re.Match[str]) -> str:
        row = by_name.get(found["name"])
        return found[0] if row is None else f"| `{row.name}` | {found['what']} | {' | '.join(_cells(row))} |"

    return LINE.sub(line, page)


def _cells(row: Row) -> tuple[str, str, str, str]:
    spread = "" if row.spread is None else f"{row.spread:.3g}"
    return f"{row.ratio:.3g}", spread, bar_cell(row), {None: "", True: "yes", False: "**no**"}[row.met]


def _hardware(about: Mapping[str, object]) -> dict[str, object]:
    return {name: about[name] for name in ("processor", "cpus", "memory_gigabytes", "system")}
