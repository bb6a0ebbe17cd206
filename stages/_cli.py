"""How a stage's command runs: its options, its errors, a termination by the scheduler."""

import errno
import functools
import inspect
import io
import logging
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NoReturn

import typer

from stages import _launch
from weakclip.disk_space import FULL, refused
from weakclip.errors import WeakClipError, one_line
from weakclip.ranks import first_to_fail, joined, launched

TERMINATED = 128 + signal.SIGTERM  # 143, as a shell reports it
GRACE = 10.0  # seconds in which a rank that has nothing to say waits for torchrun to end it
SLOTS = Path(".resume")  # where stages write
_GO_ON = "run the same command again: it goes on where it stood"
_LET_WRITE = "let this user read and write there (`ls -ld` shows who may), or mount the disk for writing; then " + _GO_ON
_MOVE_FILE = "move the file that stands where a folder is wanted, then " + _GO_ON
# What to do about a machine that refuses: these are no mistakes in the program, wherever in it they are met.
_REMEDIES = {
    errno.ENOSPC: f"free some space on the disk, then {_GO_ON}",
    errno.EDQUOT: f"free some space in your share of the disk, then {_GO_ON}",
    errno.EROFS: _LET_WRITE,
    errno.EACCES: _LET_WRITE,
    errno.EPERM: _LET_WRITE,
    errno.EMFILE: f"allow more open files (`ulimit -n 4096`) or use fewer processes (`WEAKCLIP_WORKERS=1`), then {_GO_ON}",
    errno.ENFILE: f"the machine has no open files left: end other programs, then {_GO_ON}",
    errno.ENOMEM: f"use fewer processes (`WEAKCLIP_WORKERS=1`) or a machine with more memory, then {_GO_ON}",
    errno.EIO: f"check the disk, which could not be read or written (`dmesg` says more), then {_GO_ON}",
    errno.ENOTDIR: _MOVE_FILE,
    errno.EEXIST: _MOVE_FILE,  # of a folder that is to be made
    errno.EISDIR: "move the folder that stands where a file is wanted, then " + _GO_ON,
}
_TALKATIVE = ("open_clip", "timm", "huggingface_hub", "httpx", "dvclive", "PIL")

# Bars and notices of a weight download; read by the library when it is imported.
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")


def run(main: Callable[..., None]) -> NoReturn:
    """Run a function as a Typer command with this process's arguments, then leave with its exit code.

    Where WEAKCLIP_LAUNCH names a launcher, the command is handed on to it (`stages._launch`); under torchrun it runs on all
    ranks (`weakclip.ranks`). A WeakClipError is printed as two lines, `error:` and `hint:`, and the code is 1. SIGTERM unwinds
    the stack, so that files are closed and worker processes end, and the code is 143. Other exceptions keep their traceback.
    """

    @functools.wraps(main)
    def command(*arguments: object, **options: object) -> None:
        if launcher := _launch.wanted():
            raise SystemExit(_launch.launch(launcher))
        if launched():
            _launch.end_with_parent()
        with joined():
            main(*arguments, **options)

    run_here(command)


def run_here(main: Callable[..., None]) -> NoReturn:
    """Do what `run` does in this process alone, whatever the launcher."""
    run_app(app_of(main))


def app_of(main: Callable[..., None]) -> typer.Typer:
    """A program of one command, whose help is the docstring of the function's module: what it reads, writes and costs."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command(help=inspect.getdoc(inspect.getmodule(main)) or inspect.getdoc(main))(main)
    return app


def keep_entries(app: typer.Typer) -> None:
    """Begin a paragraph of the help of each command with each entry (``Reads:``, ``Writes:``, ...): they would run together."""
    for group in app.registered_groups:
        if group.typer_instance is not None:
            keep_entries(group.typer_instance)
    for command in app.registered_commands:
        text = command.help or inspect.getdoc(command.callback) or ""
        command.help = re.sub(r"(?<!\n)\n(?=[A-Z][a-z]+: )", "\n\n", text).replace("``", "")


def run_app(app: typer.Typer) -> NoReturn:
    """Do for a whole Typer program what `run` does for one command."""
    keep_entries(app)
    quiet_libraries()
    signal.signal(signal.SIGTERM, _terminate)
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files need not be letters that it can write
        sys.stdout.reconfigure(errors="backslashreplace")
    if "DVC_STAGE" in os.environ:  # set by DVC for the commands of stages; killed, it would leave them running
        _launch.end_with_parent()
    try:
        app()
    except WeakClipError as error:
        _fail(error.problem, error.hint)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _REMEDIES:
            _fail(_refusal(error), _REMEDIES[error.errno])
        if isinstance(error, MemoryError):
            _fail("not enough memory", _REMEDIES[errno.ENOMEM])
        if not first_to_fail():
            _wait_for_the_end()
        raise
    raise SystemExit(0)


def _refusal(error: OSError) -> str:
    """What the machine refused, and where; of a full disk also what is free there."""
    where = f": {error.filename}" if error.filename else ""
    if error.errno not in FULL:
        return f"{error.strerror}{where}"
    return f"{error.strerror}{where}, {refused(Path(os.fsdecode(error.filename or SLOTS / 'any')), error.errno)}"


def quiet_libraries() -> None:
    """Let libraries log errors only, unless WEAKCLIP_LOG names another level, such as `debug`."""
    level = logging.getLevelNamesMapping().get(os.environ.get("WEAKCLIP_LOG", "").upper(), logging.ERROR)
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(level)


def _fail(problem: str, hint: str) -> NoReturn:
    if not first_to_fail():
        _wait_for_the_end()
    sys.stdout.flush()
    text = f"error: {one_line(problem)}\nhint: {one_line(hint)}\n"
    if not _launch.report(text):
        print(text, end="", file=sys.stderr)
    raise SystemExit(1) from None


def _wait_for_the_end() -> NoReturn:
    """Leave the last word to the rank that failed first, and to torchrun, which ends the others then."""
    time.sleep(GRACE)
    raise SystemExit(1)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one would end the clearing up with a traceback
    raise SystemExit(TERMINATED)
