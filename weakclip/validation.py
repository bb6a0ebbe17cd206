"""The masks that a trained network gives for photos, one PNG each."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from weakclip.datasets.index import Record
from weakclip.images import read_photo
from weakclip.journal import Journal
from weakclip.masks import write_mask
from weakclip.progress import Bar
from weakclip.ranks import world

Predict = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def predict_masks(records: Sequence[Record], predict: Predict, folder: Path, journal: Path) -> dict[str, float]:
    """Write the winning classes of every record's photo to ``folder/<image_id>.png``; memory does not grow with their number.

    ``predict``: photo (H, W, 3) uint8 to probabilities (K, H, W). Returns each image's mean winning probability, 0..1.
    ``journal`` is a file outside ``folder`` that remembers what is finished: those images are not predicted again. Ranks share
    the images.
    """
    folder.mkdir(parents=True, exist_ok=True)
    finished = Journal(journal)
    own = world().share(records)
    left = [record for record in own if record.image_id not in finished.rows]
    with Bar(total=len(own), title="predicting", done=len(own) - len(left)) as bar:
        for record in left:
            probabilities = predict(read_photo(record.photo))
            part = journal.with_name(f"part-{world().rank}.png")
            write_mask(part, probabilities.argmax(axis=0).astype(np.uint8))
            part.replace(folder / f"{record.image_id}.png")
            finished.append(record.image_id, {"confidence": float(probabilities.max(axis=0).mean(dtype=np.float64))})
            bar.advance()
    world().barrier()
    rows = Journal(journal).rows
    return {record.image_id: rows[record.image_id]["confidence"] for record in records}


def mean(values: Sequence[float]) -> float:
    """Mean that does not depend on the order of the values; NaN when there are none."""
    return math.fsum(values) / len(values) if values else math.nan
