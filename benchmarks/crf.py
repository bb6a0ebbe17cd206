"""Refining with a dense CRF: against a script as released, with fewer labels, over two processes, and in torch.

The script reads float32 probabilities in pickled dictionaries, runs the CRF over all classes that win a pixel, and writes a
mask; the project reads float16 scores from its store and writes a refined and a gated mask.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.command import run, scratch
from benchmarks.crf_as_released import refine_as_released
from benchmarks.pairs import Pair, alternate, timed
from benchmarks.rows import Row, compared
from benchmarks.samples import draw_dataset, draw_probabilities
from benchmarks.sides import Gate, Side
from benchmarks.sizes import FULL
from weakclip.crf import Backend, CrfKernel
from weakclip.datasets.index import Record
from weakclip.masks import mask_file, read_mask
from weakclip.prob_npy import SavedScores, write_prob_npy
from weakclip.refinement import Refinement, refine_all
from weakclip.scores import ScoreWriter

PROCESSES: Final = 2


def measure(quick: bool, rounds: int | None) -> list[Row]:
    """CRF at the same labels, at the tags' labels, over two processes instead of one, and by torch instead of pydensecrf."""
    count, (height, width) = (4, (94, 125)) if quick else (32, FULL.photo)
    kernel = CrfKernel(**{name: getattr(FULL.params().crf, name) for name in CrfKernel.__dataclass_fields__})
    with scratch() as folder:
        records = draw_dataset(folder, count, height=height, width=width, classes=FULL.classes).records
        write_samples(records, folder)

        def plan(*, tag_limited: bool, backend: Backend = "pydensecrf") -> Refinement:
            return Refinement(kernel=replace(kernel, backend=backend), tag_limited=tag_limited, gate=0.95)

        alone, in_torch = plan(tag_limited=True), plan(tag_limited=True, backend="torch")
        # Each pool in a process of its own: two pools in one would be made anew whenever the other one's turn is over.
        with (
            Side(over_processes, refine_as_released, records, folder, kernel) as released,
            Side(over_processes, refine_as_here, records, folder, plan(tag_limited=False), "same") as same,
            Side(over_processes, refine_as_here, records, folder, plan(tag_limited=True), "tags") as tags,
        ):
            ways: dict[str, Callable[[], float]] = {
                "released": released,
                "same": same,
                "tags": tags,
                "tags_alone": timed(lambda: refine_as_here(records, folder, alone, "tags_alone", processes=1)),
                "torch": timed(lambda: refine_as_here(records, folder, in_torch, "torch", processes=1)),
            }
            seconds = alternate(ways, rounds or 3)
        labels = FULL.classes.num_classes
        what = f"{count} photos of {width} x {height}, {PROCESSES} processes"
        return [
            compared(
                "crf_same_labels",
                Pair(seconds["same"], seconds["released"]),
                f"{labels} labels, the released script at the same labels; {what}",
                bar=1.0,
            ),
            compared(
                "crf_tag_labels",
                Pair(seconds["tags"], seconds["released"]),
                f"background and two tags, the released script at {labels} labels; {what}",
                bar=2.0,
            ),
            compared(
                "crf_two_processes",
                Pair(seconds["tags"], seconds["tags_alone"]),
                f"two processes, one process; {count} photos of {width} x {height}, 3 labels",
                bar=1.9,
            ),
            compared(
                "crf_torch",
                Pair(seconds["torch"], seconds["tags_alone"]),
                f"crf.backend torch, pydensecrf; one process, {count} photos of {width} x {height}, 3 labels",
                labels_that_differ=differing(records, folder / "torch/refined", folder / "tags/refined"),
            ),
        ]


def differing(records: Sequence[Record], first: Path, second: Path) -> float:
    """Share of the pixels of all masks whose labels differ."""
    pairs = [[read_mask(mask_file(folder, record.image_id)) for folder in (first, second)] for record in records]
    return float(np.mean(np.concatenate([(one != other).ravel() for one, other in pairs])))


def write_samples(records: Sequence[Record], folder: Path) -> None:
    """Probabilities of all classes, in the project's store and as the released code keeps them."""
    (folder / "prob_npy").mkdir()
    classes = np.arange(FULL.classes.num_classes)
    writer = ScoreWriter(folder / "scores", [record.image_id for record in records], {})
    for number, record in enumerate(records):
        if record.mask is None:
            raise ValueError("expected samples with masks")
        probabilities = draw_probabilities(number, read_mask(record.mask), len(classes))
        writer.write(record.image_id, classes, probabilities)
        write_prob_npy(folder / "prob_npy" / f"{record.image_id}.npy", SavedScores(classes, probabilities))
    writer.finish()


def over_processes(gate: Gate, refine: Callable[..., None], *arguments: object) -> None:
    """Refine all images in a pool whenever the gate opens; the pool is kept."""
    while True:
        gate()
        refine(*arguments, processes=PROCESSES)


def refine_as_here(records: Sequence[Record], folder: Path, plan: Refinement, way: str, *, processes: int) -> None:
    """What the stage does, into a folder of that name, anew."""
    shutil.rmtree(folder / way, ignore_errors=True)
    refine_all(records, folder / "scores", folder / way, plan, processes)


if __name__ == "__main__":
    run(measure)
