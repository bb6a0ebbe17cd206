"""Memory that this process has freed."""

import ctypes
from functools import cache


def give_back() -> None:
    """Return it to the system: after many small objects GNU's C library keeps it. Other libraries have nothing to be asked."""
    trim = getattr(_c_library(), "malloc_trim", None)
    if trim is not None:
        trim(0)


@cache
def _c_library() -> ctypes.CDLL:
    return ctypes.CDLL(None)
