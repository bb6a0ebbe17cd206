"""`stages.cache_features`, whose second rank is killed after its first batch; run under torchrun."""

import os
import signal
from collections.abc import Mapping, Sequence

from numpy.typing import NDArray

from stages import cache_features
from stages._cli import run
from weakclip.features import cache
from weakclip.features.writer import ShardWriter

write = cache._write


def write_and_die(writer: ShardWriter, batch: Sequence[int], tokens: Mapping[str, NDArray], missing: set[int]) -> None:
    write(writer, batch, tokens, missing)
    writer.flush()
    if os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    cache._write = write_and_die
    run(cache_features.main)
