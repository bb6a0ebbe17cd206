"""Memory that this process has freed."""

import ctypes
import gc


def give_back() -> None:
    """Return it to the system: after many small objects GNU's C library keeps it. Other libraries have nothing to be asked.

    What the interpreter keeps of freed objects for its next ones goes first: a few of them hold much memory that lies around.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
