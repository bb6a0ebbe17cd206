"""From class scores to refined masks: a dense CRF (or PAR) per image, and one run of it over a data set."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import joblib
import numpy as np
from numpy.typing import NDArray

from weakclip import heap
from weakclip.datasets.index import Record
from weakclip.errors import WeakClipError
from weakclip.file_names import make_folder, remove_folder, replace
from weakclip.image_figures import ImageIds
from weakclip.images import read_photo
from weakclip.journal import Journal, journalled_figures
from weakclip.masks import IGNORE, is_mask, mask_file, winners, write_mask
from weakclip.process_pool import HINT, end_with
from weakclip.progress import Bar
from weakclip.ranks import world
from weakclip.scores import ScoreStore
from weakclip.selection import select
from weakclip.sharpening import Kernel, sharpened

KINDS = ("refined", "gated")
WORKING = "working"  # the folder with what each process is at
IMAGES_AT_ONCE = 2  # per task of a worker process; a killed run loses at most the tasks in hand


@dataclass(frozen=True)
class RefinementStatistics:
    """Sums over pixels: how many there are, how many changed class, the winners' probabilities, how many passed the gate."""

    pixels: int
    changed: int
    confidence: float
    kept: int


@dataclass(frozen=True)
class Refinement:
    """How every image is refined: see `refine`."""

    kernel: Kernel
    tag_limited: bool
    gate: float


def refine(
    photo: NDArray[np.uint8],
    classes: NDArray[np.integer],
    probabilities: NDArray[np.floating],
    *,
    kernel: Kernel,
    tags: Sequence[int],
    tag_limited: bool,
    gate: float,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], RefinementStatistics]:
    """Sharpen the class probabilities of one photo and take the winners.

    ``photo``: (H, W, 3) uint8. ``classes``: (n,) class indices of ``probabilities``: (n, H, W), 0..1. With ``tag_limited``
    only background and the classes of ``tags`` take part. Returns the refined mask, (H, W) uint8; the gated mask, which is
    255 where the winner's probability is below ``gate``; and the statistics, whose ``changed`` compares the winners after
    sharpening with those before it. Where no class is left, all is background of probability 0.
    """
    if probabilities.shape != (len(classes), *photo.shape[:2]):
        raise ValueError(f"expected probabilities of {(len(classes), *photo.shape[:2])}, got {probabilities.shape}")
    if tag_limited:
        wanted = np.isin(classes, (0, *tags))
        classes, probabilities = classes[wanted], probabilities[wanted]
    if len(classes) == 0:
        classes, scores = np.zeros(1, np.intp), np.zeros((1, *photo.shape[:2]), np.float32)
        result = scores
    else:
        scores = probabilities.astype(np.float32)
        result = sharpened(photo, scores, kernel)
    best, confidence = winners(result)
    mask = classes.astype(np.uint8)[best]
    sure = confidence >= gate
    statistics = RefinementStatistics(
        pixels=mask.size,
        changed=int(np.count_nonzero(best != winners(scores)[0])),
        confidence=float(confidence.sum(dtype=np.float64)),
        kept=int(np.count_nonzero(sure)),
    )
    return mask, np.where(sure, mask, np.uint8(IGNORE)), statistics


def refine_all(
    records: Sequence[Record], scores: Path, folder: Path, refinement: Refinement, workers: int
) -> RefinementStatistics:
    """Refine every record's photo into ``folder/refined/<image_id>.png`` and ``folder/gated/<image_id>.png``.

    ``scores`` is the folder of a `ScoreStore`. Images that an earlier, interrupted call finished are not done again; the
    same files and statistics come out for any number of ``workers`` processes, and of ranks, which share the images. Memory
    does not grow with the number of images. A worker process that is killed raises WeakClipError with the images that were
    being refined.
    """
    working = folder / WORKING
    with world().main_first():
        if world().main:
            shutil.rmtree(working, ignore_errors=True)
        for name in (*KINDS, working.name):
            (folder / name).mkdir(parents=True, exist_ok=True)
    _refine_left(world().share(records), scores, folder, refinement, workers)
    world().barrier()
    if world().main:
        shutil.rmtree(working, ignore_errors=True)  # what is left goes with the slot
    names = [field.name for field in fields(RefinementStatistics)]
    figures = journalled_figures(folder / "statistics.jsonl", ImageIds(record.image_id for record in records), names)
    return RefinementStatistics(
        pixels=int(figures["pixels"].sum()),
        changed=int(figures["changed"].sum()),
        confidence=math.fsum(figures["confidence"]),
        kept=int(figures["kept"].sum()),
    )


def _refine_left(own: Sequence[Record], scores: Path, folder: Path, refinement: Refinement, workers: int) -> None:
    """Refine those of this rank's records that are not finished; what it takes to find their scores goes when it returns."""
    journal = Journal(folder / "statistics.jsonl")
    left = select(own, lambda record: record.image_id not in journal.finished or not _has_masks(record, folder))
    tasks = (left[start : start + IMAGES_AT_ONCE] for start in range(0, len(left), IMAGES_AT_ONCE))
    # Unordered: finished images are in the journal at once, whatever the ones before them are doing.
    pool = joblib.Parallel(
        n_jobs=workers, return_as="generator_unordered", batch_size=1, initializer=end_with, initargs=(os.getpid(),)
    )
    store = ScoreStore(scores)
    parts = ((task, store.part(record.image_id for record in task)) for task in tasks)
    # A text: the parts of a `Path` would be entered into the table of names of the other process with each task.
    results = pool(joblib.delayed(_refine_records)(task, part, str(folder), refinement) for task, part in parts)
    with Bar(total=len(own), title="refining", done=len(own) - len(left)) as bar:
        try:
            for finished in results:
                for image_id, statistics in finished.items():
                    journal.append(image_id, asdict(statistics))
                bar.advance(len(finished))
        except BrokenProcessPool as error:
            images = " or ".join(sorted({path.name.partition(" ")[2] for path in (folder / WORKING).iterdir()}))
            raise WeakClipError(
                f"a worker process died (killed, or out of memory) while it refined {images or 'an image'}", HINT
            ) from error


def _has_masks(record: Record, folder: Path) -> bool:
    return all(is_mask(mask_file(f"{folder}/{kind}", record.image_id)) for kind in KINDS)


def _refine_records(
    records: Sequence[Record], store: ScoreStore, folder: str, refinement: Refinement
) -> dict[str, RefinementStatistics]:
    heap.keep()  # for the next step of a CRF
    return {record.image_id: _refine_record(record, store, folder, refinement) for record in records}


def _refine_record(record: Record, store: ScoreStore, folder: str, refinement: Refinement) -> RefinementStatistics:
    # What is left of it names the image if this process is killed. A process of a run that was killed may still be at the same.
    working = f"{folder}/{WORKING}/{os.getpid()} {record.image_id}"
    make_folder(working)
    classes, probabilities = store.read(record.image_id)
    try:
        mask, gated, statistics = refine(
            read_photo(record.photo, record.crc32),
            classes,
            probabilities,
            kernel=refinement.kernel,
            tags=record.tags,
            tag_limited=refinement.tag_limited,
            gate=refinement.gate,
        )
    except ValueError as error:
        raise WeakClipError(
            f"{record.photo} does not fit its class scores: {error}", "write them anew: `dvc repro -f -s generate_masks`"
        ) from error
    except MemoryError as error:
        raise WeakClipError(f"a process has not enough memory to refine {record.photo}", HINT) from error
    for kind, result in zip(KINDS, (mask, gated), strict=True):
        write_mask(mask_file(working, kind), result)
        replace(mask_file(working, kind), mask_file(f"{folder}/{kind}", record.image_id))
    remove_folder(working)
    return statistics
