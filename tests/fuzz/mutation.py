"""A plain fuzzer: seeded changes of kept files, for machines without a coverage-guided one."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Final

from tests.fuzz.readers import Reader

ODD: Final = (b"\0" * 8, b"\xff" * 8, b"\xff" * 7 + b"\x7f", b"\0" * 7 + b"\x80", b"\1" + b"\0" * 7, b"\0\0\0\x80", b"\xff" * 4)


def changed(content: bytes, others: Sequence[bytes], draw: random.Random) -> bytes:
    """The content with one to four changes: bits, bytes, odd numbers, cuts, repeats, and pieces of other files."""
    result = bytearray(content)
    for _ in range(draw.randint(1, 4)):
        place = draw.randrange(len(result) + 1)
        match draw.randrange(7):
            case 0 if place < len(result):
                result[place] ^= 1 << draw.randrange(8)
            case 1 if place < len(result):
                result[place] = draw.randrange(256)
            case 2:
                odd = draw.choice(ODD)
                result[place : place + len(odd)] = odd
            case 3:
                del result[place : place + draw.randint(1, 16)]
            case 4:
                del result[place:]
            case 5:
                result[place:place] = result[place : place + draw.randint(1, 32)]
            case _:
                other = draw.choice(others)
                start = draw.randrange(len(other) + 1)
                result[place : place + draw.randint(0, 16)] = other[start : start + draw.randint(1, 64)]
    return bytes(result)


def fuzz(reader: Reader, seeds: Sequence[bytes], *, seed: int, runs: int, seconds: float = float("inf")) -> int:
    """Feed the seeds and then changes of them to a reader until it fails or has had enough; returns how many it took.

    Raises:
        AssertionError: the reader failed; the message holds the file as hexadecimal digits, to be kept with the seeds.
    """
    draw, stop = random.Random(seed), time.monotonic() + seconds
    for run in range(runs):
        content = seeds[run] if run < len(seeds) else changed(draw.choice(seeds), seeds, draw)
        try:
            reader(content)
        except Exception as error:
            raise AssertionError(f"{reader.__name__}: {type(error).__name__}: {error}\n{content.hex()}") from error
        if time.monotonic() > stop:
            return run + 1
    return runs
