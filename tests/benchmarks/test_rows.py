import json
from pathlib import Path

import pytest

from benchmarks.pairs import Pair
from benchmarks.rows import Row, compared, content, parse, repeated, table, write_json


def row(ratio: float, bar: float | None, *, at_least: bool = True, name: str = "figure") -> Row:
    return Row(name=name, ratio=ratio, spread=None, bar=bar, at_least=at_least)


@pytest.mark.parametrize(
    ("ratio", "bar", "at_least", "met"),
    [
        (3.0, 3.0, True, True),
        (2.99996, 3.0, True, False),  # 3 when rounded, and yet not met
        (3.1, 3.0, True, True),
        (0.25, 0.25, False, True),
        (0.251, 0.25, False, False),
        (9.0, None, True, None),
    ],
)
def test_a_bar_is_met_or_not_by_the_figure_itself(ratio: float, bar: float | None, at_least: bool, met: bool | None) -> None:
    assert row(ratio, bar, at_least=at_least).met is met


def test_a_comparison_keeps_what_is_behind_its_ratio() -> None:
    one = compared("step", Pair((1.0, 2.0, 2.0), (4.0, 8.0, 6.0)), "this, that", bar=3.0, windows=52)
    assert (one.ratio, one.spread, one.met) == (4.0, 1.0, True)
    assert one.details == {
        "what": "this, that",
        "seconds": 2.0,
        "seconds_of_the_other": 6.0,
        "ratios": [4.0, 4.0, 3.0],
        "windows": 52,
    }


def test_the_table_marks_what_is_not_met() -> None:
    lines = table([row(2.0, 3.0, name="slow"), row(2.0, 3.0, at_least=False, name="quick"), row(2.0, None, name="free")])
    header, slow, quick, free = (line.split() for line in lines.splitlines())
    assert header == ["name", "figure", "spread", "bar", "met"]
    assert slow == ["slow", "2", "-", "≥", "3", "NO"]
    assert quick == ["quick", "2", "-", "≤", "3", "yes"]
    assert free == ["free", "2", "-", "-", "-"]


def test_rows_are_stored_with_the_agreed_names_and_come_back(tmp_path: Path) -> None:
    rows = [compared("step", Pair((1.0, 1.0), (2.0, 4.0)), "this, that", bar=5.0), row(0.2, 0.25, at_least=False)]
    write_json(tmp_path / "results.json", content(rows))
    stored = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert stored["rows"] == [
        {"name": "step", "ratio": 3.0, "spread": 2.0, "bar": 5.0, "met": False},
        {"name": "figure", "ratio": 0.2, "spread": None, "bar": 0.25, "met": True},
    ]
    assert parse(stored) == rows
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_a_figure_that_rounding_lifts_to_its_bar_stays_unmet_when_it_is_stored() -> None:
    assert content([row(2.99996, 3.0)])["rows"] == [{"name": "figure", "ratio": 3.0, "spread": None, "bar": 3.0, "met": False}]


def test_names_that_occur_twice_are_found() -> None:
    assert repeated([row(1, None, name=name) for name in "abca"]) == ["a"]
