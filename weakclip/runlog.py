"""What a stage leaves for DVC's metrics and plots: JSON figures, JSON tables, and TSV curves by training step."""

import json
import math
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from weakclip.disk_space import full_disk_told, write_whole
from weakclip.errors import WeakClipError
from weakclip.ranks import world
from weakclip.sealed import sealed, unsealed

DIGITS = 4  # after the point, in metrics and tables
SIGNIFICANT = 6  # figures of a value in a curve


def write_metrics(path: Path, metrics: Mapping[str, object]) -> None:
    """Write nested figures as JSON, sealed: keys in their order, floats rounded to 4 digits, NaN and infinity as null."""
    figures = {str(key): _plain(value) for key, value in metrics.items()}
    _write(path, json.dumps(sealed(figures), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_metrics(path: Path, stage: str) -> dict[str, object]:
    """The figures that `write_metrics` wrote in a stage. Raises WeakClipError if the file is missing or damaged."""
    try:
        return unsealed(path.read_bytes())
    except FileNotFoundError as error:
        raise WeakClipError(f"{path} is missing", f"`dvc repro {stage}` writes it") from error
    except ValueError as error:
        raise WeakClipError(f"{path} is damaged: {error}", f"write it anew: `dvc repro -f -s {stage}`") from error


def write_rows(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write a table as a JSON list with an object for each row, as `dvc plots` reads it; values as in write_metrics."""
    lines = (json.dumps(_plain(row), ensure_ascii=False, allow_nan=False) for row in rows)
    _write(path, "[\n  " + ",\n  ".join(lines) + "\n]\n" if rows else "[]\n")


class StepLog:
    """Curves of one training: `<folder>/metrics/<name>.tsv` with the columns `step` and `<name>`, written by DVCLive.

    The folder is called `plots`, which is where DVCLive and its readers expect curves; made in a resume slot, it is published
    as `data/results/<stage>/plots`. Each value is on the disk when `log` returns. Rows that are there already are kept: an
    interrupted training calls `resume` with the step that its checkpoint stands at and logs on, and the curves end up as if
    nothing had happened. Of several ranks, the main one writes.

    ``shown``: the folder as which the curves are published in the end. Until then it holds copies of the tables, so that people
    can watch them where DVC looks: whole rows as far as the training has come. What an earlier run left there is removed. They
    are copies because DVC, when it brings other results from its cache, would write through links into the slot.
    """

    def __init__(self, folder: Path, shown: Path | None = None) -> None:
        # Imported here: it takes a second, and stages without a training read this module as well.
        from dvclive.live import Live

        class Curves(Live):
            def _init_dvc(self) -> None:
                """Leave the repository alone: DVCLive would make one where there is none, and fails on one without commits."""

            def make_summary(self) -> None:
                """Write nothing: the latest values are no metrics of ours, and the stage writes its own metrics.json."""

            def post_data_to_studio(self) -> None:
                """Send nothing: a training uses no network."""

        if folder.name != "plots":
            raise ValueError(f"expected a folder called plots, got {folder}")
        self._tables = folder / "metrics"
        self._shown = shown
        self._logged = False
        if not world().main:
            self._live = None
            return
        if shown is not None and shown.exists():
            shutil.rmtree(shown)
        # DVCLive clears what it finds unless it is told to resume.
        self._live = Curves(dir=str(folder.parent), resume=True, report=None, save_dvc_exp=False, dvcyaml=False)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add a row for the step to the table of each name."""
        if self._live is None:
            return
        if not self._logged:
            self._cut(step)
            self._logged = True
        self._live.step = step
        for name, value in values.items():
            rounded = float(f"{float(value):.{SIGNIFICANT}g}")
            with full_disk_told(self._tables / f"{name}.tsv", len(f"{step}\t{rounded}\n")):
                self._live.log_metric(name, rounded, timestamp=False)
        self._show(self._tables / f"{name}.tsv" for name in values)

    def resume(self, step: int) -> None:
        """Drop the rows after the step; a row of that very step is replaced when it is logged again."""
        if self._live is None:
            return
        self._cut(step + 1)
        self._logged = False

    def close(self) -> None:
        """Finish the curves; nothing can be logged after it."""
        if self._live is not None:
            self._live.end()  # type: ignore[no-untyped-call]

    def _cut(self, step: int) -> None:
        for table in sorted(self._tables.rglob("*.tsv")):
            try:
                text = table.read_text(encoding="utf-8")
                if "\n" not in text:  # a process that was killed, or had no room, had made the table, but not its head
                    table.unlink()
                    continue
                head, *rows = text.splitlines()
                # A row that was cut off by a full disk or a killed process has no second column.
                kept = [row for row in rows if row.count("\t") == 1 and int(row.split("\t")[0]) < step]
            except ValueError as error:
                hint = f"delete {self._tables.parent.parent} to start the stage from its beginning"
                raise WeakClipError(f"{table} is damaged: {error}", hint) from error
            _write(table, "".join(f"{line}\n" for line in (head, *kept)))
        self._show(sorted(self._tables.rglob("*.tsv")))

    def _show(self, tables: Iterable[Path]) -> None:
        if self._shown is None:
            return
        for table in tables:
            copy = self._shown / "metrics" / table.relative_to(self._tables)
            copy.parent.mkdir(parents=True, exist_ok=True)
            write_whole(copy, table.read_bytes())


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return round(value, DIGITS) if math.isfinite(value) else None
    return value


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, text.encode(), sync=True)
