"""A pickle that asks for gigabytes, told before it is read."""

from __future__ import annotations

import pickle
import pickletools


def check_marks(stream: bytes) -> None:
    """Refuse a pickle that numbers what it remembers with larger numbers than it has bytes: room is made for all below."""
    for opcode, number, position in pickletools.genops(stream):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and isinstance(number, int) and number > (position or 0):
            raise pickle.UnpicklingError(f"the number {number} for a thing that it remembers")
