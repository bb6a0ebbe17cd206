"""What a stage shows while it works: a bar on a terminal, a line for each tenth elsewhere, and summary lines."""

import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

from weakclip.ranks import world

T = TypeVar("T")

QUIET_SECONDS = 2.0  # of work shorter than this nothing is left on the screen
SHORTEST_BAR, LONGEST_BAR = 10, 40  # columns of a terminal
BESIDE_BAR = 9  # columns: the indent, three gaps, and the share in percent
_console = Console(highlight=False, markup=False)


def say(text: str) -> None:
    """Print one plain line, above the bar if there is one; of several ranks, the main one does."""
    if not world().main:
        return
    if _console.is_terminal:
        _console.print(text, soft_wrap=True)
    else:
        print(text, flush=True)


def close_with(figure: str, *outputs: Path) -> None:
    """Print a stage's last line: the figure that matters, what was written and how large it is."""
    written = ", ".join(f"{path} ({size(bytes_in(path))})" for path in outputs)
    say(f"  {figure}   wrote {written}")


def bytes_in(path: Path) -> int:
    """The length of a file, or of all files in a folder."""
    if not path.is_dir():
        return path.stat().st_size if path.is_file() else 0
    with os.scandir(path) as entries:  # one by one: a folder may hold a file for each image
        return sum(map(_bytes_of, entries))


def _bytes_of(entry: os.DirEntry[str]) -> int:
    if entry.is_dir():
        return 0 if entry.is_symlink() else bytes_in(Path(entry.path))
    return entry.stat().st_size if entry.is_file() else 0


def size(n_bytes: int) -> str:
    """Return a number of bytes as people read it, in powers of 1,000: "77.7 GB"."""
    value = float(n_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:,.1f} TB"


def duration(seconds: float) -> str:
    """Return a time as people read it: "0.4 s", "18 s", "4 min 18 s", "1 h 52 min"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"


def fitted(width: int, title: str, counts: str, note: str) -> tuple[str, int, str]:
    """What of a bar's line has room in ``width`` columns: title, length of the bar, and what stands after it.

    ``note``: parts between two spaces. A narrow terminal costs its last ones first, then the bar's length, down to
    `SHORTEST_BAR`, then the end of the title.
    """
    room = width - BESIDE_BAR - SHORTEST_BAR - len(counts)
    if len(title) > room:
        title = title[: max(room - 1, 0)] + "…"
    room -= len(title)
    while note and len(note) + 2 > room:
        note = note.rpartition("  ")[0]
    if note:
        counts += f"  {note}"
        room -= len(note) + 2
    return title, min(LONGEST_BAR, SHORTEST_BAR + max(room, 0)), counts


class Bar:
    """Progress of a loop, shown from `__enter__` to `__exit__`; a bar opened inside another one shows nothing.

    total is the number of steps of the whole work and done how many of them an earlier, interrupted run has made: they count
    for the share, not for the rate. Where ranks share the work it is that of this process, and the main one shows its own.
    """

    _shown: ClassVar["Bar | None"] = None

    def __init__(self, *, total: int, title: str, unit: str = "images", done: int = 0) -> None:
        self._total, self._title, self._unit = total, title, unit
        self._done = self._first = done
        self._tenth = 10 * done // max(total, 1)
        self._start = 0.0
        self._progress: Progress | None = None
        self._length = BarColumn(bar_width=SHORTEST_BAR)
        self._task = TaskID(0)

    def __enter__(self) -> Self:
        self._start = time.monotonic()
        if Bar._shown is None and world().main:
            Bar._shown = self
            if _console.is_terminal:
                self._open()
        return self

    def advance(self, n: int = 1, note: str = "") -> None:
        """Count n more steps; note is what to show beside them, such as the losses."""
        self._done = min(self._done + n, self._total)
        if self._progress is not None:
            title, self._length.bar_width, text = fitted(_console.width, self._title, self._counts(), note)
            self._progress.update(self._task, completed=self._done, title=title, description=text)
        elif Bar._shown is self:
            self._print(note)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if Bar._shown is not self:
            return
        Bar._shown = None
        if self._progress is not None:
            self._progress.live.transient = time.monotonic() - self._start < QUIET_SECONDS
            self._progress.stop()

    def _open(self) -> None:
        columns = (TextColumn("  {task.fields[title]}"), self._length, TaskProgressColumn(), TextColumn("{task.description}"))
        self._progress = Progress(*columns, console=_console)
        self._progress.start()
        title, self._length.bar_width, _ = fitted(_console.width, self._title, "", "")
        self._task = self._progress.add_task("", total=self._total, completed=self._done, title=title)

    def _print(self, note: str) -> None:
        tenth = 10 * self._done // max(self._total, 1)
        if tenth <= self._tenth:
            return
        self._tenth = tenth
        if time.monotonic() - self._start >= QUIET_SECONDS:
            say(f"  {self._title}  {10 * tenth:3d} %  {self._counts()}" + (f"  {note}" if note else ""))

    def _counts(self) -> str:
        seconds = max(time.monotonic() - self._start, 1e-9)
        rate = (self._done - self._first) / seconds
        left = round((self._total - self._done) / rate) if rate > 0 else 0
        clock = f"{left // 3600}:{left % 3600 // 60:02d}:{left % 60:02d}" if left >= 3600 else f"{left // 60}:{left % 60:02d}"
        speed = f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"
        return f"{self._done:,}/{self._total:,} {self._unit}  {speed} {self._unit}/s  {clock} left"


def track(items: Iterable[T], *, total: int, title: str, unit: str = "images") -> Iterator[T]:
    """Yield the items, counting one as done when the next is asked for."""
    with Bar(total=total, title=title, unit=unit) as bar:
        for item in items:
            yield item
            bar.advance()
