"""`python -m tests.fuzz READER [--seconds 60] [--seed 0]`: one reader, guided by coverage where atheris is installed."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from contextlib import nullcontext


def main() -> None:
    guided = importlib.util.find_spec("atheris") is not None
    if guided:
        import atheris
    with atheris.instrument_imports(include=["weakclip"]) if guided else nullcontext():
        from tests.fuzz.mutation import fuzz
        from tests.fuzz.readers import CORPUS, READERS, seeds
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reader", choices=READERS)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    reader = READERS[given.reader]
    if guided:
        # What it finds is written beside where it was started; the corpus stays as it is.
        options = [
            f"-max_total_time={given.seconds:.0f}",
            f"-seed={given.seed + 1}",
            "-max_len=4096",
            "-artifact_prefix=found-",
        ]
        inputs = [f"-seed_inputs={','.join(str(path) for path in sorted((CORPUS / given.reader).iterdir()))}"]
        atheris.Setup([sys.argv[0], *options, *inputs], reader)
        atheris.Fuzz()
    count = fuzz(reader, seeds(given.reader), seed=given.seed, runs=sys.maxsize, seconds=given.seconds)
    print(f"{given.reader}: {count:,} files, none of which it failed on (without atheris: not guided by coverage)")


if __name__ == "__main__":
    main()
