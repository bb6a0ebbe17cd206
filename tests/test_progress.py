"""What a stage shows off a terminal, and how it writes sizes and times."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from weakclip import progress
from weakclip.progress import LONGEST_BAR, SHORTEST_BAR, Bar, close_with, duration, fitted, say, size, track


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (21_000_000, "21.0 MB"),
        (999_949, "1.0 MB"),
        (315_000_000, "315 MB"),
        (77_700_000_000, "77.7 GB"),
        (5_000_000_000_000, "5.0 TB"),
    ],
)
def test_size_is_in_powers_of_a_thousand(n_bytes: int, text: str) -> None:
    assert size(n_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.44, "0.4 s"), (9.96, "10 s"), (59.7, "1 min 0 s"), (258, "4 min 18 s"), (6720, "1 h 52 min")]
)
def test_duration_is_in_words(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_track_yields_every_item() -> None:
    assert list(track(iter("abc"), total=3, title="letters")) == ["a", "b", "c"]


def test_short_work_prints_nothing_off_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    list(track(range(100), total=100, title="quick"))
    assert capsys.readouterr().out == ""


def test_long_work_prints_a_line_for_each_tenth_without_carriage_returns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.0)
    list(track(range(1000), total=1000, title="slow"))
    out = capsys.readouterr().out
    assert out.count("\n") == 10
    assert "\r" not in out
    assert out.splitlines()[0].startswith("  slow   10 %  100/1,000 images")


def test_resumed_work_begins_where_it_stood(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.0)
    with Bar(total=10, title="train", unit="steps", done=8) as bar:
        bar.advance(2, note="loss 0.1")
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert "10/10 steps" in out and "loss 0.1" in out


def test_bar_inside_a_bar_shows_nothing_and_the_outer_one_goes_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.0)
    with Bar(total=1, title="outer") as bar:
        list(track(range(10), total=10, title="inner"))
        bar.advance()
    out = capsys.readouterr().out
    assert "inner" not in out and "outer" in out


def test_bar_that_was_broken_off_leaves_room_for_the_next(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.0)
    with pytest.raises(RuntimeError), Bar(total=1, title="broken"):
        raise RuntimeError
    list(track(range(1), total=1, title="next"))
    assert "next" in capsys.readouterr().out


def test_empty_work_is_no_error() -> None:
    assert list(track([], total=0, title="nothing")) == []


def test_said_lines_are_not_broken(capsys: pytest.CaptureFixture[str]) -> None:
    say("word [bold] " * 30)
    assert capsys.readouterr().out == "word [bold] " * 30 + "\n"


def test_a_stage_closes_with_its_figure_and_what_it_wrote(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, file = tmp_path / "masks", tmp_path / "weights"
    (folder / "deeper").mkdir(parents=True)
    (folder / "a.png").write_bytes(bytes(900))
    (folder / "deeper/b.png").write_bytes(bytes(600))
    file.write_bytes(bytes(12))
    close_with("pseudo 65.0", folder, file)
    assert capsys.readouterr().out == f"  pseudo 65.0   wrote {folder} (1.5 kB), {file} (12 B)\n"


def test_on_a_terminal_there_is_a_bar_with_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(progress, "_console", Console(file=screen, force_terminal=True, width=120, markup=False))
    with Bar(total=4, title="refining") as bar:
        bar.advance(3, note="loss 0.1")
        say("a line above")
    shown = screen.getvalue()
    assert "refining" in shown and "75%" in shown and "3/4 images" in shown
    assert "images/s" in shown and "left" in shown and "loss 0.1" in shown
    assert "a line above" in shown


def test_a_narrow_terminal_costs_the_note_then_the_bars_length_then_the_title() -> None:
    title, counts, note = "DeepLab on 80 photos", "25/150 steps  6.4 steps/s  0:20 left", "seeding 0.61  boundary 0.2"
    assert fitted(200, title, counts, note) == (title, LONGEST_BAR, f"{counts}  {note}")
    assert fitted(100, title, counts, note) == (title, 21, f"{counts}  seeding 0.61")
    assert fitted(80, title, counts, note) == (title, 15, counts)
    assert fitted(60, title, counts, note) == ("Deep…", SHORTEST_BAR, counts)
    assert fitted(5, title, counts, note) == ("…", SHORTEST_BAR, counts)


@pytest.mark.parametrize("width", [70, 80, 100, 200])
def test_the_bar_itself_and_the_time_left_are_seen_on_a_terminal_of_any_width(
    monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(progress, "_console", Console(file=screen, force_terminal=True, width=width, markup=False))
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.0)
    with Bar(total=150, title="DeepLab on 10,582 photos", unit="steps") as bar:
        bar.advance(75, note="cross_entropy 0.61")
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue()).splitlines()[-1]
    assert last.count("━") + last.count("╸") + last.count("╺") >= SHORTEST_BAR
    assert " 50%" in last and "75/150 steps" in last and "0:00 left" in last
    assert len(last) <= width


def test_short_work_leaves_nothing_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(progress, "_console", Console(file=screen, force_terminal=True, width=80, markup=False))
    list(track(range(3), total=3, title="quick"))
    assert screen.getvalue().endswith("\x1b[1A\x1b[2K")  # the line is cleared
