"""Memory that this process has freed."""

import ctypes
from functools import cache
from typing import Final

# Names and numbers of GNU's mallopt.
M_TRIM_THRESHOLD: Final = -1
M_MMAP_THRESHOLD: Final = -3
SMALL: Final = 32 * 2**20  # bytes; the largest threshold that it takes
NEVER: Final = 2**31 - 1


def give_back() -> None:
    """Return it to the system: after many small objects GNU's C library keeps it. Other libraries have nothing to be asked."""
    trim = getattr(_c_library(), "malloc_trim", None)
    if trim is not None:
        trim(0)


def keep() -> None:
    """Keep it from now on, in blocks of up to 32 MB, for what is allocated next: work that frees and allocates the same tens of
    megabytes again and again, such as the dense CRF, otherwise waits for the system to hand out empty pages each time."""
    set_option = getattr(_c_library(), "mallopt", None)
    if set_option is not None:
        set_option(M_MMAP_THRESHOLD, SMALL)
        set_option(M_TRIM_THRESHOLD, NEVER)


@cache
def _c_library() -> ctypes.CDLL:
    return ctypes.CDLL(None)
