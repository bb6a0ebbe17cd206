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

import joblib
import numpy as np
from PIL import Image
from pydensecrf.densecrf import DenseCRF2D
from pydensecrf.utils import unary_from_softmax

from benchmarks.command import run, scratch
from benchmarks.pairs import Pair, alternate, timed
from benchmarks.rows import Row, compared
from benchmarks.samples import draw_dataset, draw_probabilities
from benchmarks.sizes import FULL
from weakclip.crf import Backend, CrfKernel
from weakclip.datasets.index import Record
from weakclip.masks import mask_file, read_mask
from weakclip.prob_npy import SavedScores, read_prob_npy, write_prob_npy
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

        def ours(way: str, *, tag_limited: bool, processes: int, backend: Backend = "pydensecrf") -> Callable[[], None]:
            def refine() -> None:
                shutil.rmtree(folder / way, ignore_errors=True)
                plan = Refinement(kernel=replace(kernel, backend=backend), tag_limited=tag_limited, gate=0.95)
                refine_all(records, folder / "scores", folder / way, plan, processes)

            return refine

        ways = {
            "released": timed(lambda: refine_as_released(records, folder, kernel, PROCESSES)),
            "same": timed(ours("same", tag_limited=False, processes=PROCESSES)),
            "tags": timed(ours("tags", tag_limited=True, processes=PROCESSES)),
            "tags_alone": timed(ours("tags_alone", tag_limited=True, processes=1)),
            "torch": timed(ours("torch", tag_limited=True, processes=1, backend="torch")),
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


def refine_as_released(records: Sequence[Record], folder: Path, kernel: CrfKernel, processes: int) -> None:
    """Image by image in a process pool: what the released script does, in words of our own."""
    (folder / "released").mkdir(exist_ok=True)
    joblib.Parallel(n_jobs=processes)(
        joblib.delayed(_refine_one)(Path(record.photo), folder / "prob_npy", folder / "released", kernel) for record in records
    )


def _refine_one(photo: Path, probabilities: Path, out: Path, kernel: CrfKernel) -> None:
    saved = read_prob_npy(probabilities / f"{photo.stem}.npy")
    with Image.open(photo) as image:
        pixels = np.array(image.convert("RGB"))  # a copy, for the CRF takes none that is read-only
    height, width = pixels.shape[:2]
    field = DenseCRF2D(width, height, len(saved.classes))
    field.setUnaryEnergy(np.ascontiguousarray(unary_from_softmax(saved.probabilities)))
    field.addPairwiseGaussian(sxy=kernel.gaussian_sxy, compat=kernel.gaussian_compat)
    field.addPairwiseBilateral(
        sxy=kernel.bilateral_sxy, srgb=kernel.bilateral_srgb, rgbim=pixels, compat=kernel.bilateral_compat
    )
    winners = np.argmax(np.array(field.inference(kernel.iterations)), axis=0).reshape(height, width)
    Image.fromarray(saved.classes[winners].astype(np.uint8)).save(out / f"{photo.stem}.png")


if __name__ == "__main__":
    run(measure)
