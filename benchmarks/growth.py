"""Time and memory as the number of images grows: prepare, feature store, mask generation, refine, evaluate.

The images are tiny and the networks are stand-ins, so that what grows with the number of images is all there is to see. Needs
about 20 kB of disk for an image while it runs. `python -m benchmarks.growth --images 1000 10000 100000`
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.command import scratch
from benchmarks.growth_steps import STEPS, draw, one_step
from benchmarks.machine import commit, machine, versions
from benchmarks.memory import HeldTogether
from benchmarks.rows import Row, significant, write_json
from benchmarks.rows import content as rows_content
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


def main(images: Sequence[int], out: Path | None = None) -> None:
    """Measure every step at each number of images."""
    growth: dict[str, list[Measured]] = {name: [] for name in STEPS}
    for count in images:
        with scratch() as folder:
            draw(folder, count)
            for name in STEPS:
                growth[name].append(measure(folder, name, count))
                one = growth[name][-1]
                print(f"{name} of {count:,} images: {one.seconds:.1f} s, {one.peak_bytes / 1e6:.0f} MB", flush=True)
    print(f"\n{table(growth)}")
    if out is not None:
        about = {"machine": machine(), "versions": versions(), "commit": commit()}
        write_json(out, about | {"growth": content(growth)} | rows_content(rows(growth)))


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


def content(growth: Growth) -> dict[str, object]:
    """What JSON holds of it."""
    return {
        name: [
            {
                "images": one.images,
                "seconds": significant(one.seconds),
                "milliseconds_an_image": significant(one.milliseconds),
                "megabytes": significant(one.peak_bytes / 1e6),
                "megabytes_at_start": significant(one.start_bytes / 1e6),
                **({"bytes_an_image_more": significant(more)} if more is not None else {}),
            }
            for one, more in zip(measured, [None, *bytes_an_image(measured)], strict=True)
        ]
        for name, measured in growth.items()
    }


def rows(growth: Growth) -> list[Row]:
    """Of each step, how many times the memory at the fewest images it takes at the most, which is to be flat."""
    found = []
    for name, measured in growth.items():
        memory = megabytes(measured)
        counts = ", ".join(f"{one.images:,}" for one in measured)
        what = f"peak memory of {name} with the most images over that with the fewest: {counts}"
        details = {"what": what, "megabytes": [significant(one) for one in memory]}
        found.append(
            Row(name=f"growth_{name}", ratio=memory[-1] / memory[0], spread=None, bar=1.0, at_least=False, details=details)
        )
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
    return parser.parse_args()


if __name__ == "__main__":
    chosen = arguments()
    main(chosen.images, chosen.out)
