"""Evaluation of masks against loops over classes: both in one process, and both as a user runs them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import joblib
import numpy as np

from benchmarks.command import run, scratch
from benchmarks.pairs import Pair, alternate, timed
from benchmarks.rows import Row, compared, significant
from benchmarks.samples import draw_mask
from benchmarks.scoring_by_loops import count_by_loops, count_files, read
from benchmarks.sides import Gate, Side
from weakclip.evaluation import mean_iou, score_masks
from weakclip.masks import read_mask, write_mask
from weakclip.workers import workers

VOC: Final = 21
COCO: Final = 91
RELEASED_PROCESSES: Final = 10  # what the released script starts by default, however many processors there are


def measure(quick: bool, rounds: int | None) -> list[Row]:
    """Scoring mask files against loops over the classes of each image."""
    count = 8 if quick else 64
    return [
        *measure_size("score_vs_loops", count, VOC, (375, 500), rounds or 7, bar=20.0),
        *measure_size("score_vs_loops_91", count, COCO, (480, 640), rounds or 3),
        measure_command(count, 1 if quick else 8, rounds or 3),
    ]


def measure_size(
    name: str, count: int, num_classes: int, size: tuple[int, int], rounds: int, bar: float | None = None
) -> list[Row]:
    """Files read and counted, and counting alone."""
    with scratch() as folder:
        pairs = write_pairs(folder, count, num_classes, *size)
        arrays = [(read(prediction), read(truth)) for prediction, truth in pairs]
        if not np.isclose(mean_iou(score_masks(pairs, num_classes)), mean_iou_by_loops(pairs, num_classes)):
            raise RuntimeError("expected both ways to find the same mIoU")
        ways = {
            "ours": timed(lambda: score_masks(pairs, num_classes)),
            "reading": timed(lambda: read_all(pairs)),
            "loops": timed(lambda: mean_iou_by_loops(pairs, num_classes)),
            "ours_counting": timed(lambda: score_masks(arrays, num_classes)),
            "loops_counting": timed(lambda: count_by_loops(arrays, num_classes)),
        }
        seconds = alternate(ways, rounds)
    files, counting = (Pair(seconds[f"ours{part}"], seconds[f"loops{part}"]) for part in ("", "_counting"))
    limit = Pair(seconds["reading"], seconds["loops"]).ratio
    what = f"loops over classes; {count} pairs of masks of {size[1]} x {size[0]}, {num_classes} classes, one process"
    return [
        compared(
            name, files, f"reading files and counting, {what}", bar=bar, ratio_if_counting_took_no_time=significant(limit)
        ),
        compared(f"{name}_counting", counting, f"counting alone, {what}"),
    ]


def measure_command(count: int, times: int, rounds: int) -> Row:
    """What `weakclip score` does in its processes, and the released script in its own; both without their start."""
    with scratch() as folder:
        pairs = write_pairs(folder, count, VOC, 375, 500) * times
        # Each in a process of its own: two pools in one would be made anew whenever the other one's turn is over.
        with Side(our_command, pairs) as ours, Side(released_command, pairs) as script:
            seconds = alternate({"ours": ours, "script": script}, rounds)
    what = f"as their commands do it: {workers()} processes, {RELEASED_PROCESSES} of the released script; {len(pairs)} pairs"
    return compared("score_command", Pair(seconds["ours"], seconds["script"]), what)


def our_command(gate: Gate, pairs: Sequence[tuple[Path, Path]]) -> None:
    while True:
        gate()
        score_masks(pairs, VOC, workers())


def released_command(gate: Gate, pairs: Sequence[tuple[Path, Path]]) -> None:
    """A task for each image, all of them handed out at once."""
    while True:
        gate()
        pool = joblib.Parallel(RELEASED_PROCESSES, pre_dispatch="all")
        sum(pool(joblib.delayed(count_files)(prediction, truth, VOC) for prediction, truth in pairs))


def read_all(pairs: Sequence[tuple[Path, Path]]) -> None:
    for prediction, truth in pairs:
        read_mask(prediction), read_mask(truth)


def write_pairs(folder: Path, count: int, num_classes: int, height: int, width: int) -> list[tuple[Path, Path]]:
    """Predictions and truths that differ."""
    pairs = []
    for number in range(count):
        tags = [1 + (2 * number + step) % (num_classes - 1) for step in (0, 1)]
        pair = (folder / f"{number}_prediction.png", folder / f"{number}_truth.png")
        prediction = draw_mask(2 * number, height, width, tags)
        prediction[prediction == 255] = tags[0]
        write_mask(pair[0], prediction)
        write_mask(pair[1], draw_mask(2 * number + 1, height, width, tags))
        pairs.append(pair)
    return pairs


def mean_iou_by_loops(pairs: Sequence[tuple[Path, Path]], num_classes: int) -> float:
    hits, predicted, true = count_by_loops(((read(prediction), read(truth)) for prediction, truth in pairs), num_classes)
    union = predicted + true - hits
    with np.errstate(invalid="ignore"):
        return float(np.nanmean(np.where(union > 0, hits / union, np.nan)))


if __name__ == "__main__":
    run(measure)
