from pathlib import Path

from weakclip.journal import Journal


def test_rows_are_found_again_exactly(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "rows.jsonl")
    journal.append("ä b", {"confidence": 0.1 + 0.2, "kept": 3})
    journal.append("c", {"confidence": 1e-300})
    assert Journal(tmp_path / "rows.jsonl").rows == journal.rows
    assert journal.rows["ä b"] == {"confidence": 0.1 + 0.2, "kept": 3}


def test_a_line_that_was_cut_off_is_dropped_at_every_length(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    Journal(path).append("a", {"x": 1})
    first = path.read_bytes()
    Journal(path).append("b", {"x": 2})
    whole = path.read_bytes()
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        Journal(path).append("c", {"x": 3})
        names = {"c"} | ({"a"} if length >= len(first) else set()) | ({"b"} if length == len(whole) else set())
        assert set(Journal(path).rows) == names
