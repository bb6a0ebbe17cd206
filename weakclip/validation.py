"""The masks that a trained network gives for photos, one PNG each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from weakclip.crf import CrfKernel
from weakclip.datasets.index import Record
from weakclip.deeplab.postprocessing import sharpen
from weakclip.file_names import replace
from weakclip.image_figures import ImageFigures, ImageIds
from weakclip.images import read_photo
from weakclip.journal import Journal, journalled_figures
from weakclip.masks import is_mask, mask_file, winners, write_mask
from weakclip.process_pool import in_processes, note
from weakclip.progress import Bar
from weakclip.ranks import world
from weakclip.selection import select
from weakclip.sharpening import processes
from weakclip.side_by_side import map_ahead, side_by_side

Predict = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
Found = tuple[NDArray[np.uint8], float]
"""A photo's mask (H, W), and the mean of its winning probabilities."""


def predict_masks(
    records: Sequence[Record], predict: Predict, folder: Path, journal: Path, kernel: CrfKernel | None = None
) -> ImageFigures[float]:
    """Write the winning classes of every record's photo to ``folder/<image_id>.png``; memory does not grow with their number.

    ``predict``: photo (H, W, 3) uint8 to probabilities (K, H, W). ``kernel``: of a dense CRF on them, which runs in other
    processes while the network predicts on. Returns each image's mean winning probability, 0..1. ``journal`` is a file outside
    ``folder`` that remembers what is finished: those images are not predicted again. Ranks share the images.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = Journal(journal)
    own = world().share(records)
    left = select(own, lambda record: record.image_id not in rows.finished or not is_mask(mask_file(folder, record.image_id)))
    found = plain_masks(left, predict) if kernel is None else sharpened_masks(left, predict, kernel)
    part = journal.with_name(f"part-{world().rank}.png")
    with Bar(total=len(own), title="predicting", done=len(own) - len(left)) as bar:
        for record, (mask, confidence) in zip(left, found, strict=True):
            write_mask(part, mask)
            replace(part, mask_file(folder, record.image_id))
            rows.append(record.image_id, {"confidence": confidence})
            bar.advance()
    world().barrier()
    image_ids = ImageIds(record.image_id for record in records)
    return ImageFigures(image_ids, journalled_figures(journal, image_ids, ["confidence"])["confidence"])


def predictions(records: Sequence[Record], predict: Predict) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
    """Photo and probabilities of each record; on a CPU a few photos go through the network side by side."""

    def read_and_predict(record: Record) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        photo = read_photo(record.photo, record.crc32)
        return photo, predict(photo)

    with side_by_side() as together:
        yield from map_ahead(read_and_predict, records, threads=together, ahead=together)


def plain_masks(records: Sequence[Record], predict: Predict) -> Iterator[Found]:
    """What wins in the photos."""
    for _, probabilities in predictions(records, predict):
        yield _found(np.arange(len(probabilities)), probabilities)


def sharpened_masks(records: Sequence[Record], predict: Predict, kernel: CrfKernel) -> Iterator[Found]:
    """What wins after a dense CRF among the classes that win a pixel before it."""

    def tasks() -> Iterator[tuple[object, ...]]:
        for record, (photo, probabilities) in zip(records, predictions(records, predict), strict=True):
            classes = np.unique(winners(probabilities)[0])
            yield record, photo, classes, probabilities[classes], kernel

    return in_processes(_sharpened, tasks(), processes(kernel))


def _sharpened(
    record: Record,
    photo: NDArray[np.uint8],
    classes: NDArray[np.integer],
    probabilities: NDArray[np.float32],
    kernel: CrfKernel,
) -> Found:
    note(record.photo)
    return _found(classes, sharpen(photo, probabilities, kernel))


def _found(classes: NDArray[np.integer], probabilities: NDArray[np.float32]) -> Found:
    best, confidence = winners(probabilities)
    return classes.astype(np.uint8)[best], float(confidence.mean(dtype=np.float64))


def mean(values: Sequence[float]) -> float:
    """Mean that does not depend on the order of the values; NaN when there are none."""
    return math.fsum(values) / len(values) if values else math.nan
