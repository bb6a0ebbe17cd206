"""Memory that this process has freed."""

import ctypes


def give_back() -> None:
    """Return it to the system: after many small objects GNU's C library keeps it. Other libraries have nothing to be asked."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
