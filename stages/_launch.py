"""A stage handed on to a launcher: `WEAKCLIP_LAUNCH="torchrun --nproc-per-node=2"`, so that DVC's commands stay as they are.

The launcher is given `-m stages.<name>` and the arguments, and its processes are the ranks of the stage. This process waits: it
passes signals on, and returns a single exit status and a single message.
"""

import ctypes
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from weakclip.errors import WeakClipError
from weakclip.ranks import launched

VARIABLE = "WEAKCLIP_LAUNCH"
REPORT = "WEAKCLIP_LAUNCH_REPORT"  # names a file for the error of the rank that failed first
SCRATCH = Path(".resume")  # all machines see it
PR_SET_PDEATHSIG = 1


def wanted() -> str:
    """Return the launcher to hand this command on to, or nothing."""
    return "" if launched() else os.environ.get(VARIABLE, "").strip()


def launch(launcher: str) -> int:
    """Run this process's command under the launcher and return the exit status.

    A launcher has much to say about a process that failed; once a rank has reported why, only that is shown.
    """
    module = sys.modules["__main__"].__spec__
    if module is None:
        raise WeakClipError(f"{VARIABLE} is set, and this is not run as a module", "run it as `python -m stages.<name>`")
    with _folder(SCRATCH / f"launch-{module.name}") as folder:
        report = folder / "error"
        environment = {"OMP_NUM_THREADS": "1", **os.environ, REPORT: str(report.absolute())}  # torchrun's default, unsaid
        try:
            process = subprocess.Popen(
                [*shlex.split(launcher), "-m", module.name, *sys.argv[1:]],
                stderr=subprocess.PIPE,
                env=environment,
                preexec_fn=end_with_parent,
            )
        except (OSError, ValueError) as error:
            raise WeakClipError(f"{VARIABLE}={launcher} cannot be run: {error}", f"correct it, or unset {VARIABLE}") from error
        status = _accompany(process, report)
        if status and report.exists():
            sys.stdout.flush()
            sys.stderr.write(report.read_text(encoding="utf-8"))
    return status if status >= 0 else 128 - status


@contextmanager
def _folder(path: Path) -> Iterator[Path]:
    """An empty folder for a while. Its name is fixed, so that what a killed process leaves is removed by the next one."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def report(text: str) -> bool:
    """Leave a rank's error to the process that has launched it; False if nobody has."""
    path = os.environ.get(REPORT)
    if not launched() or path is None or not Path(path).parent.is_dir():
        return False
    Path(path).write_text(text, encoding="utf-8")
    return True


def _accompany(process: subprocess.Popen[bytes], report: Path) -> int:
    stream = process.stderr
    assert stream is not None  # it is a pipe
    try:
        while chunk := os.read(stream.fileno(), 1 << 16):
            if not report.exists():
                sys.stderr.buffer.write(chunk)
                sys.stderr.flush()
    except SystemExit:  # SIGTERM: the launcher ends its ranks
        process.terminate()
        raise
    finally:
        _drain(stream)
        process.wait()
    return process.returncode


def _drain(stream: IO[bytes]) -> None:
    while os.read(stream.fileno(), 1 << 16):
        pass


def end_with_parent() -> None:
    """Ask for SIGTERM when the process that started this one ends: nothing goes on behind DVC's back. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
