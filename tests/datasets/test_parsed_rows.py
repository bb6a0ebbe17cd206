"""Tables that stay in their files."""

from __future__ import annotations

import pickle
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import pytest

from weakclip.datasets.index import table_lines
from weakclip.datasets.parsed_rows import ParsedRows
from weakclip.disk_space import written_aside

COLUMNS = ("name", "words")


def join(cells: Sequence[str]) -> str:
    return "|".join(cells)


def rows_of(count: int) -> ParsedRows[str]:
    with written_aside(table_lines(COLUMNS, ((f"photo {number:06d}", 'a "b",\nc') for number in range(count)))) as table:
        return ParsedRows(table, COLUMNS, join)


def test_rows_are_read_from_a_file_that_was_closed_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(b"".join(table_lines(COLUMNS, [("Käse", "x\ny"), ("b", "")])))
    with path.open("rb") as table:
        rows = ParsedRows(table, COLUMNS, join)
    path.unlink()
    assert [*rows] == ["Käse|x\ny", "b|"] and rows[-1] == "b|" and [*rows[:1]] == ["Käse|x\ny"]
    assert pickle.loads(pickle.dumps(rows)) == ("Käse|x\ny", "b|")


def test_a_row_takes_the_place_where_it_starts() -> None:
    tracemalloc.start()
    rows = rows_of(20_000)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert rows[19_999] == 'photo 019999|a "b",\nc'
    assert held < 8 * len(rows)


@pytest.mark.parametrize("table", ["", "name\na\n", "name,words\na,b,c\n", 'name,words\na,"b\n'])
def test_what_is_no_table_is_refused_with_its_line(table: str, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text(table)
    with path.open("rb") as file, pytest.raises(ValueError, match=r"line \d"):
        ParsedRows(file, COLUMNS, join)
