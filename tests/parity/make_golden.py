"""Writes ``golden/weakclip.npz``: `python -m tests.parity.make_golden`, after the parity tests have passed on the full data."""

import numpy as np

from tests.parity.own import OWN, compute


def main() -> None:
    OWN.parent.mkdir(exist_ok=True)
    np.savez_compressed(OWN, **compute())
    print(f"wrote {OWN}, {OWN.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
