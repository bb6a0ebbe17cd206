"""How good masks are: counts that add up over images, then the figures that follow from them.

A class's intersection over union is taken from counts over all images (PASCAL VOC); pixels whose truth is 255 are left
out; classes in neither prediction nor truth are left out of the mean.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import chain, islice
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from weakclip.datasets.index import Record
from weakclip.errors import WeakClipError
from weakclip.image_figures import ImageFigures, ImageIds
from weakclip.masks import IGNORE, mask_file, read_mask
from weakclip.process_pool import in_processes, note
from weakclip.selection import select

Mask = NDArray[np.uint8]
Confusion = NDArray[np.int64]
Pair = tuple[Path | str | Mask, Path | str | Mask]
PAIRS_AT_ONCE: Final = 64
T = TypeVar("T")


def confusion_matrix(prediction: Mask, truth: Mask, num_classes: int) -> Confusion:
    """Count pixels by true and predicted class.

    ``prediction``, ``truth``: uint8 of one shape, indices below ``num_classes`` or 255. Returns (K, K + 1): rows are the
    truth, columns the prediction, the last column the pixels predicted as 255, which are wrong for their true class.
    Pixels whose truth is 255 are left out. Raises ValueError for other shapes or indices.
    """
    if prediction.shape != truth.shape:
        raise ValueError(f"expected one shape, got a prediction of {prediction.shape} for a truth of {truth.shape}")
    if prediction.dtype != np.uint8 or truth.dtype != np.uint8:
        raise ValueError(f"expected uint8 masks, got {prediction.dtype} and {truth.dtype}")
    ends = run_ends(prediction, truth)
    true, predicted = truth.take(ends), prediction.take(ends)
    lengths = ends.copy()
    lengths[1:] -= ends[:-1]
    lengths[:1] += 1
    rows, columns = _places(num_classes)
    side = num_classes + 2
    # Counted in float64, exact up to 2**53.
    counts = np.bincount(rows.take(true) + columns.take(predicted), lengths, minlength=side * side).reshape(side, side)
    if counts[-1].any() or counts[:, -1].any():
        for name, indices in (("truth", true), ("prediction", predicted)):
            beyond = indices[(indices >= num_classes) & (indices != IGNORE)]
            if beyond.size:
                raise ValueError(f"the {name} has index {beyond.max()}, expected 0 to {num_classes - 1} or {IGNORE}")
    return counts[:num_classes, : num_classes + 1].astype(np.int64)


def run_ends(prediction: Mask, truth: Mask) -> NDArray[np.intp]:
    """Where, row by row, the runs of pixels end in which neither mask (H, W) changes: places in the flat masks, ascending.

    Masks are areas, so there are a hundred times fewer runs than pixels, and all that is counted is counted on them.
    """
    true, predicted = truth.ravel(), prediction.ravel()
    changes = true[1:] != true[:-1]
    changes |= predicted[1:] != predicted[:-1]
    return np.append(np.flatnonzero(changes), true.size - 1)[: true.size]


@cache
def _places(num_classes: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Where an index is counted in a flat table of K + 2 rows (truth) and columns (prediction): its row's start and its column.

    Each is (256,). Row and column K are those of 255, K + 1 those of indices that should not be there.
    """
    columns = np.full(IGNORE + 1, num_classes + 1)
    columns[:num_classes] = np.arange(num_classes)
    columns[IGNORE] = num_classes
    return columns * (num_classes + 2), columns


@dataclass(frozen=True)
class ClassShares:
    """Per class, as shares of the union of prediction and truth: what both hold, and what only one of them holds.

    Each is (K,) float64 in 0..1, and the three add up to one; NaN where a class is in neither. A pixel predicted as 255 is a
    false negative of its class and a false positive of none.
    """

    iou: NDArray[np.float64]
    false_positives: NDArray[np.float64]
    false_negatives: NDArray[np.float64]


def class_shares(confusion: Confusion) -> ClassShares:
    """IoU, false positives (P - TP) / union and false negatives (T - TP) / union from (K, K + 1) counts."""
    num_classes = confusion.shape[0]
    hits = np.diagonal(confusion).astype(np.float64)
    truth, predicted = confusion.sum(axis=1), confusion[:, :num_classes].sum(axis=0)
    union = truth + predicted - hits

    def share(count: NDArray[np.float64]) -> NDArray[np.float64]:
        result = np.full(num_classes, np.nan)
        np.divide(count, union, out=result, where=union > 0)
        return result

    return ClassShares(iou=share(hits), false_positives=share(predicted - hits), false_negatives=share(truth - hits))


def intersection_over_union(confusion: Confusion) -> NDArray[np.float64]:
    """Per class TP / (TP + FP + FN) from (K, K + 1) counts: (K,) in 0..1, NaN where a class is in neither."""
    return class_shares(confusion).iou


def mean_over_classes(values: NDArray[np.float64]) -> float:
    """Mean of the values (K,) that are numbers: classes that do not occur are left out; NaN when none does."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else float("nan")


def mean_iou(confusion: Confusion) -> float:
    """Mean of `intersection_over_union` over the classes that occur, 0..1; NaN when none does."""
    return mean_over_classes(intersection_over_union(confusion))


def score_masks(pairs: Iterable[Pair], num_classes: int, workers: int = 1) -> Confusion:
    """Sum of the confusion matrices of (prediction, truth) pairs, files or arrays; (K, K + 1).

    A stream: memory does not grow with the number of pairs. ``workers`` above 1 counts in that many processes, with the
    same result. Raises WeakClipError that names the file for missing files, other sizes and indices out of range.
    """
    total = np.zeros((num_classes, num_classes + 1), np.int64)
    for counts in _count(pairs, num_classes, workers, _sum):
        total += counts
    return total


def score_records(
    records: Sequence[Record], folder: Path, num_classes: int, workers: int = 1
) -> tuple[Confusion, ImageFigures[float]]:
    """Count ``folder/<image_id>.png`` against the true masks of the records that have one.

    Returns what `count_records` does, and each image's own mean IoU, 0..1 (NaN where every pixel's truth is 255).
    """
    total = np.zeros((num_classes, num_classes + 1), np.int64)
    of_images = array("d")
    for counts, means in _count(_pairs(records, folder), num_classes, workers, _sum_and_means):
        total += counts
        of_images.extend(means)
    return total, _by_image((record for record in records if record.mask is not None), of_images)


def count_records(records: Sequence[Record], folder: Path, num_classes: int, workers: int = 1) -> Confusion:
    """What `score_masks` returns for ``folder/<image_id>.png`` and the true masks of the records that have one."""
    return score_masks(_pairs(records, folder), num_classes, workers)


def changed_shares(
    records: Sequence[Record], folder: Path, other: Path, num_classes: int, workers: int = 1
) -> ImageFigures[float]:
    """The share of each image's pixels, 0..1, whose class differs between its masks in two folders; it needs no true masks.

    Pixels that are 255 in ``folder`` are left out; NaN where all are.
    """
    pairs = ((mask_file(other, record.image_id), mask_file(folder, record.image_id)) for record in records)
    return _by_image(records, array("d", chain.from_iterable(_count(pairs, num_classes, workers, _changed))))


def mask_quality(records: Sequence[Record], folder: Path, num_classes: int, workers: int = 1) -> dict[str, object]:
    """Quality of the masks ``folder/<image_id>.png`` of training images, for a metrics file.

    Returns ``miou`` (percent, 2 decimals), ``split`` and ``n`` for the labelled images of the split ``train``, and
    ``miou_trainaug``, ``n_trainaug`` for those of ``trainaug`` (train is not part of it here). Empty without true masks.
    """
    result: dict[str, object] = {}
    known = select(records, lambda record: record.mask is not None)
    for split, suffix in (("train", ""), ("trainaug", "_trainaug")):
        labelled = select(known, partial(_is_of, split))
        if labelled:
            result[f"miou{suffix}"] = percent(mean_iou(count_records(labelled, folder, num_classes, workers)))
            if not suffix:
                result["split"] = split
            result[f"n{suffix}"] = len(labelled)
    return result


def tag_recall(records: Sequence[Record], folder: Path) -> float:
    """Percent (2 decimals) of the (image, tag) pairs whose tag has at least one pixel in ``folder/<image_id>.png``.

    It needs no true masks. 100.0 when no image has a tag.
    """
    found = pairs = 0
    for record in records:
        if record.tags:
            present = np.bincount(read_mask(mask_file(folder, record.image_id)).ravel(), minlength=IGNORE + 1)
            found += sum(1 for tag in record.tags if present[tag])
            pairs += len(record.tags)
    return percent(found / pairs) if pairs else 100.0


def percent(share: float) -> float:
    """A share of 0..1 in percent with the two decimals that figures are stored with."""
    return round(100.0 * share, 2)


def class_rows(confusions: Mapping[str, Confusion], names: Sequence[str]) -> list[dict[str, object]]:
    """IoU by class in percent: rows of ``class`` and a column for each confusion, absent where a class does not occur.

    ``names``: by index, background first. Rows are in the order of ``names``.
    """
    columns = {column: intersection_over_union(confusion) for column, confusion in confusions.items()}
    return [
        {"class": name, **{column: percent(iou[index]) for column, iou in columns.items() if not np.isnan(iou[index])}}
        for index, name in enumerate(names)
    ]


def confusion_rows(confusion: Confusion, names: Sequence[str], at_least: float = 0.001) -> list[dict[str, object]]:
    """What the pixels of each true class were taken for: rows ``{"actual", "predicted", "share"}``.

    ``share`` is that of the true class's pixels, 0..1; pairs below ``at_least`` are left out. The last column of the
    counts is called ``unsure``.
    """
    rows: list[dict[str, object]] = []
    for actual, counts in zip(names, confusion, strict=True):
        for predicted, count in zip((*names, "unsure"), counts, strict=True):
            if count and count >= at_least * counts.sum():
                rows.append({"actual": actual, "predicted": predicted, "share": round(float(count / counts.sum()), 4)})
    return rows


def _is_of(split: str, record: Record) -> bool:
    return record.split == split


def _pairs(records: Iterable[Record], folder: Path) -> Iterator[Pair]:
    return ((mask_file(folder, record.image_id), record.mask) for record in records if record.mask is not None)


def _by_image(records: Iterable[Record], figures: array[float]) -> ImageFigures[float]:
    return ImageFigures(ImageIds(record.image_id for record in records), np.frombuffer(figures, np.float64))


def _count(pairs: Iterable[Pair], num_classes: int, workers: int, summary: Callable[[list[Confusion]], T]) -> Iterator[T]:
    stream = iter(pairs)
    chunks = iter(lambda: list(islice(stream, PAIRS_AT_ONCE)), [])
    yield from in_processes(_count_chunk, ((chunk, num_classes, summary) for chunk in chunks), workers)


def _count_chunk(pairs: Sequence[Pair], num_classes: int, summary: Callable[[list[Confusion]], T]) -> T:
    return summary([_count_pair(prediction, truth, num_classes) for prediction, truth in pairs])


def _sum(counts: list[Confusion]) -> Confusion:
    return sum(counts[1:], start=counts[0])


def _sum_and_means(counts: list[Confusion]) -> tuple[Confusion, list[float]]:
    return _sum(counts), [mean_iou(count) for count in counts]


def _changed(counts: list[Confusion]) -> list[float]:
    pixels = [(int(np.diagonal(count).sum()), int(count.sum())) for count in counts]
    return [1 - same / total if total else float("nan") for same, total in pixels]


def _count_pair(prediction: Path | str | Mask, truth: Path | str | Mask, num_classes: int) -> Confusion:
    note("a mask" if isinstance(prediction, np.ndarray) else str(prediction))
    masks = [mask if isinstance(mask, np.ndarray) else read_mask(mask) for mask in (prediction, truth)]
    try:
        return confusion_matrix(masks[0], masks[1], num_classes)
    except ValueError as error:
        names = " against ".join(str(mask) for mask in (prediction, truth) if not isinstance(mask, np.ndarray))
        if not names:
            raise
        raise WeakClipError(
            f"{names}: {error}", "both masks must have the size of the photo and hold the dataset's class indices"
        ) from error
