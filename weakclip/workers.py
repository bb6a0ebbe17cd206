"""How many worker processes a stage may start."""

import os

import joblib

from weakclip.errors import WeakClipError
from weakclip.ranks import node

VARIABLE = "WEAKCLIP_WORKERS"


def workers() -> int:
    """Return the value of WEAKCLIP_WORKERS, or else the number of CPUs that this process may use.

    The latter respects the affinity of the process and the CPU share of a container; the ranks of a machine share it. The
    number never changes a result.
    """
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        return max(1, int(joblib.cpu_count()) // node().count)
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise WeakClipError(
            f"{VARIABLE} is {text!r}, which is not a number of processes",
            f"set it to 1 or more, or unset it to use every CPU: `unset {VARIABLE}`",
        )
    return int(text)
