"""Photos with their masks for training, in memory where they fit, and the batches drawn from them.

Batches are a pure function of (seed, step): a resumed run sees what an undisturbed one would have seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from weakclip.datasets.index import Record
from weakclip.deeplab.recipe import Augment, Mask, Pixels
from weakclip.errors import WeakClipError
from weakclip.images import read_photo
from weakclip.masks import IGNORE, read_mask
from weakclip.progress import track
from weakclip.seeding import rng
from weakclip.workers import workers

IN_MEMORY: Final = 2_000_000_000  # bytes of decoded photos and masks that are kept


@dataclass(frozen=True, kw_only=True)
class Example:
    """A photo and its mask, of ``height`` x ``width`` pixels each. ``crc32``: of the photo's file, see `read_photo`."""

    image_id: str
    photo: str
    mask: Path | str
    height: int
    width: int
    crc32: int | None = None


@dataclass(frozen=True)
class Batch:
    """``photos``: (B, S, S, 3) pixel values 0..255, uint8 or float32. ``masks``: (B, S, S) uint8."""

    photos: Pixels
    masks: Mask


def with_masks_from(records: Sequence[Record], folder: Path) -> tuple[Example, ...]:
    """The records with the masks ``folder/<image_id>.png``."""
    return tuple(_example(record, folder / f"{record.image_id}.png") for record in records)


def with_true_masks(records: Sequence[Record]) -> tuple[Example, ...]:
    """The records that have a true mask, with it."""
    return tuple(_example(record, record.mask) for record in records if record.mask is not None)


def _example(record: Record, mask: Path | str) -> Example:
    return Example(
        image_id=record.image_id, photo=record.photo, mask=mask, height=record.height, width=record.width, crc32=record.crc32
    )


def read_example(example: Example, num_classes: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Photo (H, W, 3) and mask (H, W); refuses a mask of another size or with foreign indices by file name."""
    photo, mask = read_photo(example.photo, example.crc32), read_mask(example.mask)
    if mask.shape != photo.shape[:2]:
        problem = f"{example.mask} is {mask.shape[1]} x {mask.shape[0]} pixels, its photo {photo.shape[1]} x {photo.shape[0]}"
        raise WeakClipError(problem, "a mask has the size of its photo; write it anew: `dvc repro`")
    indices = np.unique(mask)
    if foreign := [int(index) for index in indices if index >= num_classes and index != IGNORE]:
        problem = f"{example.mask} has the class index {foreign[0]}; there are {num_classes} classes, background included"
        raise WeakClipError(problem, "the mask belongs to another list of classes; write it anew: `dvc repro`")
    return photo, mask


class Batches:
    """Augmented batches, made in threads while the network computes. A context manager.

    ``part``: which crops of a batch are made, of ``batch_size`` in all; a crop does not depend on the part it is in.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        *,
        augment: Augment,
        batch_size: int,
        num_classes: int,
        seed: int,
        part: slice = slice(None),
    ) -> None:
        if not examples:
            raise WeakClipError("there is no photo with a mask to train DeepLab on", "`dvc repro refine_masks` writes masks")
        self._examples = tuple(examples)
        self._augment = augment
        self._batch_size = batch_size
        self._num_classes = num_classes
        self._seed = seed
        self._part = part
        self._pool = ThreadPoolExecutor(max_workers=max(1, min(workers(), batch_size)))
        self._next: tuple[int, list[Future[tuple[Pixels, Mask]]]] | None = None
        self._kept = self._read_all() if sum(4 * e.height * e.width for e in self._examples) <= IN_MEMORY else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def names(self, step: int) -> tuple[str, ...]:
        """The image of each crop of a step."""
        return tuple(self._examples[index].image_id for _, index in self._slots(step))

    def batch(self, step: int) -> Batch:
        """The crops of a step; those of the next one are begun."""
        begun = self._next[1] if self._next is not None and self._next[0] == step else self._begin(step)
        self._next = (step + 1, self._begin(step + 1))
        crops = [future.result() for future in begun]
        return Batch(np.stack([photo for photo, _ in crops]), np.stack([mask for _, mask in crops]))

    def _begin(self, step: int) -> list[Future[tuple[Pixels, Mask]]]:
        return [self._pool.submit(self._crop, index, step, slot) for slot, index in self._slots(step)]

    def _slots(self, step: int) -> list[tuple[int, int]]:
        """Places in the batch and their examples, in a fresh random order in each pass over them."""
        count = len(self._examples)
        places = range(step * self._batch_size, (step + 1) * self._batch_size)
        passes = {place // count for place in places}
        orders = {number: rng(self._seed, "deeplab order", number).permutation(count) for number in passes}
        return list(enumerate(int(orders[place // count][place % count]) for place in places))[self._part]

    def _crop(self, index: int, step: int, slot: int) -> tuple[Pixels, Mask]:
        photo, mask = self._kept[index] if self._kept is not None else read_example(self._examples[index], self._num_classes)
        return self._augment(photo, mask, rng(self._seed, "deeplab", step, slot))

    def _read_all(self) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
        read = self._pool.map(lambda example: read_example(example, self._num_classes), self._examples)
        return list(track(read, total=len(self._examples), title="reading photos and masks"))
