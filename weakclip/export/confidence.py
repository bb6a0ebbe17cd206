"""Refined masks with another gate than the one that `refine_masks` was run with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from weakclip.datasets.index import Record
from weakclip.errors import WeakClipError
from weakclip.export.masked_photos import MaskedPhoto, read_masked_photo
from weakclip.images import read_photo
from weakclip.process_pool import in_processes, note
from weakclip.refinement import Refinement, refine
from weakclip.scores import ScoreStore

CHUNK: Final = 8  # images a task


def gated_photos(
    records: Sequence[Record], masks: Path, num_classes: int, scores: Path, refinement: Refinement, workers: int
) -> Iterator[MaskedPhoto]:
    """The refined masks, 255 where refinement gave the class a probability below ``refinement.gate``; it runs again for
    that.

    ``masks``: of `refine_masks`. ``scores``: folder of a `ScoreStore`, which has all records.

    Raises:
        WeakClipError: a mask is not what refinement makes of its scores.
    """
    chunks = [records[start : start + CHUNK] for start in range(0, len(records), CHUNK)]
    work = partial(gate_chunk, masks=masks, num_classes=num_classes, scores=scores, refinement=refinement)
    for done in in_processes(work, ((chunk,) for chunk in chunks), max(1, min(workers, len(chunks)))):
        yield from done


def gate_chunk(
    records: Sequence[Record], *, masks: Path, num_classes: int, scores: Path, refinement: Refinement
) -> list[MaskedPhoto]:
    """`gate` of each image, in a worker process."""
    store = ScoreStore(scores)
    return [gate(record, masks, num_classes, store, refinement) for record in records]


def gate(record: Record, masks: Path, num_classes: int, store: ScoreStore, refinement: Refinement) -> MaskedPhoto:
    """The photo's mask (H, W) uint8 with 255 where refinement is less sure than its gate."""
    note(str(record.photo))
    photo = read_masked_photo(record, masks, num_classes)
    classes, probabilities = store.read(record.image_id)
    mask, gated, _ = refine(
        read_photo(record.photo),
        classes,
        probabilities,
        kernel=refinement.kernel,
        tags=record.tags,
        tag_limited=refinement.tag_limited,
        gate=refinement.gate,
    )
    if not np.array_equal(mask, photo.mask):
        problem = f"{masks / record.image_id}.png is not what crf in params.yaml makes of its class scores"
        hint = "a confidence is known of data/masks/refined as `dvc repro refine_masks` writes them, on the same device"
        raise WeakClipError(problem, hint)
    return MaskedPhoto(record, gated)
