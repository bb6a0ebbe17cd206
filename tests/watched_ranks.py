"""A module, given as `-m stages.refine_masks`, whose ranks note what each of them does; run under torchrun.

Each leaves `watched/<rank>.json`: the images that it decoded and the files that it wrote while it was not alone, and what it
printed. Bars are shown however short the work is.
"""

import contextlib
import io
import json
import os
import re
import runpy
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from weakclip import progress
from weakclip.ranks import world

NOTES = Path("watched")
decode = Image.open
decoded: list[str] = []
written: list[str] = []


def note(found: list[str], path: object) -> None:
    if isinstance(path, str | os.PathLike) and world().count > 1:
        found.append(os.fspath(path))


def note_and_decode(path: Any, *arguments: Any, **named: Any) -> Image.Image:
    note(decoded, path)
    return decode(path, *arguments, **named)


def note_written(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR):
        note(written, arguments[0])


def main() -> None:
    module = sys.argv[2]
    del sys.argv[1:3]
    Image.open = note_and_decode
    sys.addaudithook(note_written)
    progress.QUIET_SECONDS = 0.0
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        NOTES.mkdir(exist_ok=True)
        notes = {"decoded": decoded, "written": written, "printed": printed.getvalue()}
        (NOTES / f"{os.environ['RANK']}.json").write_text(json.dumps(notes), encoding="utf-8")


def noted(folder: Path, rank: int) -> dict[str, Any]:
    """What a rank that ran in the folder has noted."""
    notes: dict[str, Any] = json.loads((folder / NOTES / f"{rank}.json").read_text(encoding="utf-8"))
    return notes


def share(folder: Path, rank: int, done: str, place: str) -> set[str]:
    """The images or shards that a rank has ``decoded`` or ``written`` in folders of the name ``place``."""
    return {found[1] for path in noted(folder, rank)[done] if (found := re.search(rf"\b{place}/(\w+[-_]\d+)\.", path))}


if __name__ == "__main__":
    main()
