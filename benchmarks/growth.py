"""Time and memory as the number of images grows: prepare, feature store, mask generation, refine, evaluate.

The images are tiny and the networks are stand-ins, so that what grows with the number of images is all there is to see. Needs
about 20 kB of disk for an image while it runs. `python -m benchmarks.growth --images 1000 10000 100000`
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.command import scratch
from benchmarks.growth_steps import STEPS, draw, one_step
from benchmarks.kept import keep, stamped
from benchmarks.memory import HeldTogether
from benchmarks.rows import Row, significant
from benchmarks.sides import Side


@dataclass(frozen=True, kw_only=True)
class Measured:
    """``peak_bytes``: the most that the step's processes held together; ``start_bytes``: what they held when it began."""

    images: int
    seconds: float
    start_bytes: float
    peak_bytes: float

    @property
    def milliseconds(self) -> float:
        """Of an image."""
        return 1000 * self.seconds / self.images


Growth = Mapping[str, Sequence[Measured]]

RUNS_OF_THE_FEWEST: Final = 5
"""So many of them are measured, to see by how much two runs differ; the one in the middle counts."""
FLAT: Final = 1.02
"""Memory that counts as flat over a hundred times as many images: a list of their records alone would be above it."""
LINEAR: Final = 1.1
"""Time an image that counts as the same."""


def main(images: Sequence[int], out: Path | None = None) -> None:
    """Measure every step at each number of images."""
    growth: dict[str, list[Measured]] = {name: [] for name in STEPS}
    spreads: dict[str, float] = {}
    for count in images:
        runs: dict[str, list[Measured]] = {name: [] for name in STEPS}
        for _ in range(RUNS_OF_THE_FEWEST if count == images[0] else 1):
            with scratch() as folder:
                draw(folder, count)
                for name in STEPS:
                    one = measure(folder, name, count)
                    runs[name].append(one)
                    print(f"{name} of {count:,} images: {one.seconds:.1f} s, {one.peak_bytes / 1e6:.0f} MB", flush=True)
        for name, measured in runs.items():
            growth[name].append(typical(measured))
            if count == images[0]:
                spreads[name] = spread(megabytes(measured))
    print(f"\n{table(growth)}")
    if out is not None:
        keep(out, stamped(rows(growth, spreads)))


def typical(runs: Sequence[Measured]) -> Measured:
    """Of several runs with as many images their medians."""
    seconds, start, peak = (median(getattr(run, name) for run in runs) for name in ("seconds", "start_bytes", "peak_bytes"))
    return Measured(images=runs[0].images, seconds=seconds, start_bytes=start, peak_bytes=peak)


def spread(values: Sequence[float]) -> float:
    """From the lowest to the highest, as a share of the median."""
    return (max(values) - min(values)) / median(values)


def measure(folder: Path, name: str, count: int) -> Measured:
    """A step in processes of its own."""
    with Side(one_step, folder, name, environment={"WEAKCLIP_DEVICE": "cpu"}) as side, HeldTogether(side.process) as memory:
        seconds = side()
    return Measured(images=count, seconds=seconds, start_bytes=memory.start, peak_bytes=memory.peak)


def table(growth: Growth) -> str:
    """Milliseconds an image and megabytes by number of images; how many times the last are those of the first, and the bytes of
    memory that each image more has taken."""
    counts = [measured.images for measured in next(iter(growth.values()))]
    header = ["step", *(f"{count:,}" for count in counts), "last / first"]
    lines = [header]
    for name, measured in growth.items():
        times, memory = per_image(measured), megabytes(measured)
        lines.append([f"{name}, ms an image", *(f"{value:.3g}" for value in times), f"{times[-1] / times[0]:.2f}"])
        lines.append([f"{name}, MB", *(f"{value:.0f}" for value in memory), f"{memory[-1] / memory[0]:.2f}"])
        if len(measured) > 1:
            lines.append([f"{name}, bytes an image more", "", *(f"{value:.0f}" for value in bytes_an_image(measured)), ""])
        lines.append(
            [f"{name}, MB since its start", *(f"{(one.peak_bytes - one.start_bytes) / 1e6:.0f}" for one in measured), ""]
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)


def rows(growth: Growth, spreads: Mapping[str, float]) -> list[Row]:
    """Of each step how many times the memory at the fewest images it takes at the most, which is to be flat; and the time an
    image at the most over that at the number before, where starting does not count any more. ``spreads``: see `spread`."""
    found = []
    for name, measured in growth.items():
        memory, times = megabytes(measured), per_image(measured)
        counts = ", ".join(f"{one.images:,}" for one in measured)
        found += [
            Row(
                name=f"growth_{name}",
                ratio=memory[-1] / memory[0],
                spread=spreads[name],
                bar=FLAT,
                at_least=False,
                details={
                    "what": f"peak memory of {name} with the most images over that with the fewest: {counts}",
                    "megabytes": [significant(one) for one in memory],
                    "bytes_an_image_more": [significant(one) for one in bytes_an_image(measured)],
                },
            ),
            Row(
                name=f"growth_{name}_time",
                ratio=times[-1] / times[-2],
                spread=None,
                bar=LINEAR,
                at_least=False,
                details={
                    "what": f"time of {name} for an image with the most images over that with those before: {counts}",
                    "milliseconds_an_image": [significant(one) for one in times],
                },
            ),
        ]
    return found


def bytes_an_image(measured: Sequence[Measured]) -> list[float]:
    """Growth of the peak from the first number of images to each of the others, for each image more."""
    first, *others = measured
    return [(one.peak_bytes - first.peak_bytes) / (one.images - first.images) for one in others]


def per_image(measured: Sequence[Measured]) -> list[float]:
    return [one.milliseconds for one in measured]


def megabytes(measured: Sequence[Measured]) -> list[float]:
    return [one.peak_bytes / 1e6 for one in measured]


def arguments() -> argparse.Namespace:
    """With argparse, unlike the other commands: Typer has no option that takes several numbers at once."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 10000, 100000], help="numbers of images, ascending")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    chosen = parser.parse_args()
    if len(chosen.images) < 2:
        parser.error("growth is seen from two numbers of images on")
    return chosen


if __name__ == "__main__":
    chosen = arguments()
    main(chosen.images, chosen.out)
