import tracemalloc

import pytest

from weakclip.table import Table

KINDS = {"file": str, "rows": int}
ROWS = [{"file": "a", "rows": 3}, {"file": "käse", "rows": 2**40}, {"file": "", "rows": 0}]


def test_rows_come_back_as_they_were_given() -> None:
    table = Table.of([ROWS[:1], ROWS[1:]], KINDS)
    assert [*table] == ROWS and table == ROWS and len(table) == 3
    assert table[-1] == ROWS[-1] and [*table[1:]] == ROWS[1:] and table != ROWS[:2]
    assert type(table[1]["rows"]) is int
    with pytest.raises(IndexError):
        table[3]


def test_no_rows() -> None:
    assert not Table.of([], KINDS) and not Table.of([[]], KINDS)


@pytest.mark.parametrize("row", [{"file": "a"}, {"file": 1, "rows": 1}, {"file": "a", "rows": None}])
def test_other_rows_are_refused(row: dict[str, object]) -> None:
    with pytest.raises((KeyError, TypeError, AttributeError)):
        Table.of([[row]], KINDS)


def test_a_row_takes_what_its_cells_have() -> None:
    count = 20_000
    tracemalloc.start()
    table = Table.of(([{"file": f"{number:05d}", "rows": number} for number in range(start, start + 1000)]
                      for start in range(0, count, 1000)), KINDS)  # fmt: skip
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert table[17] == {"file": "00017", "rows": 17}
    assert kept < 15 * count  # 5 and 8
