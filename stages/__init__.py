"""One command for each DVC stage: `python -m stages.<name>`, run from the root of the project."""

import os
import sys
from types import TracebackType

# GNU OpenMP reads these when torch loads it. Its default, spinning while it waits, makes two busy processes on one machine
# several times slower than one; results do not depend on it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")


def _say_interrupted(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """Ctrl-C while a command still reads its libraries, which takes seconds, is told in a line; all else as ever."""
    if issubclass(kind, KeyboardInterrupt):
        print("\ninterrupted; the same command goes on where it stood", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, traceback)


sys.excepthook = _say_interrupted
