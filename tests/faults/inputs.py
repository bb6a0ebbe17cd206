"""Cases of odd and hostile input for the long run: names and functions.

A function works in an empty folder and asserts what comes of its input: it is handled, or refused with two lines, and nothing
half-made is left.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

Case = Callable[[Path], None]
CASES: Final[Sequence[tuple[str, Case]]] = ()
