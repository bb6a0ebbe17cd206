import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import kept
from benchmarks.kept import keep, merged, shown, stamped
from benchmarks.kept import kept as rows_in
from benchmarks.machine import PAGE, RESULTS
from benchmarks.rows import Row, parse


def row(name: str, ratio: float, bar: float | None = None, *, at_least: bool = True) -> Row:
    return Row(name=name, ratio=ratio, spread=0.5, bar=bar, at_least=at_least)


def test_rows_that_were_not_measured_again_stay_with_their_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = tmp_path / "results.json"
    monkeypatch.setattr(kept, "commit", lambda: "first")
    keep(results, stamped([row("a", 1.0), row("b", 2.0)]))
    monkeypatch.setattr(kept, "commit", lambda: "second")
    keep(results, stamped([row("b", 3.0), row("c", 4.0)]))
    found = rows_in(results)
    assert [(one.name, one.ratio, one.details["commit"]) for one in found] == [
        ("a", 1.0, "first"),
        ("b", 3.0, "second"),
        ("c", 4.0, "second"),
    ]


def test_rows_of_another_machine_do_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results, here = tmp_path / "results.json", kept.machine()
    monkeypatch.setattr(kept, "machine", lambda: here | {"cpus": 64})
    keep(results, [row("a", 1.0)])
    monkeypatch.undo()
    assert rows_in(results) == []
    keep(results, [row("b", 1.0)])
    assert [one["name"] for one in json.loads(results.read_text())["rows"]] == ["b"]
    monkeypatch.setattr(kept, "machine", lambda: here | {"settings": {"OMP_NUM_THREADS": "1"}})
    assert rows_in(results) == [row("b", 1.0)]


def test_a_new_row_takes_the_place_of_its_name() -> None:
    assert merged([row("a", 1.0), row("b", 1.0)], [row("c", 2.0), row("a", 2.0)]) == [
        row("a", 2.0),
        row("b", 1.0),
        row("c", 2.0),
    ]


def test_a_page_gets_the_figures_and_keeps_its_words() -> None:
    page = "| name | what | figure |\n| `a` | this, `times` that | 1 |  |  |  |\n| `other` | x | 1 | 2 | 3 | 4 |"
    rows = [row("a", 2.0004, 3.0), replace(row("none", 1.0), spread=None)]
    assert shown(page, rows).splitlines()[1:] == ["| `a` | this, `times` that | 2 | 0.5 | ≥ 3 | **no** |", page.splitlines()[2]]
    assert "| 2 | 0.5 | ≤ 3 | yes |" in shown(page, [row("a", 2.0004, 3.0, at_least=False)])


def test_the_page_of_the_project_shows_every_row_of_its_results() -> None:
    rows = parse(json.loads(RESULTS.read_text(encoding="utf-8")))
    page = PAGE.read_text(encoding="utf-8")
    assert [one.name for one in rows if f"| `{one.name}` | " not in page] == []
    assert shown(page, rows) == page
