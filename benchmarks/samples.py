"""Photos that no camera took, with masks and class probabilities, of any number and size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from weakclip.datasets.index import ClassList, Dataset, Record, write_dataset
from weakclip.masks import write_mask
from weakclip.seeding import rng

DISCS = 40


def draw_photo(number: int, height: int, width: int) -> NDArray[np.uint8]:
    """Discs of many colours on a gradient with sensor noise, (height, width, 3): edges and textures for a CRF to look at."""
    draw = rng("benchmark photo", number)
    rows, columns = np.mgrid[:height, :width]
    photo = np.stack([120 + 60 * rows / height, 100 + 80 * columns / width, np.full((height, width), 110.0)], axis=2)
    for _ in range(DISCS):
        y, x, radius = draw.uniform(0, height), draw.uniform(0, width), draw.uniform(0.02, 0.15) * max(height, width)
        photo[(rows - y) ** 2 + (columns - x) ** 2 < radius**2] = draw.uniform(0, 255, 3)
    return np.clip(photo + draw.normal(0, 6, photo.shape), 0, 255).astype(np.uint8)


def draw_mask(number: int, height: int, width: int, tags: Sequence[int]) -> NDArray[np.uint8]:
    """A disc of each tag on background, with an unsure rim of 255: (height, width)."""
    draw = rng("benchmark mask", number)
    rows, columns = np.mgrid[:height, :width]
    mask = np.zeros((height, width), np.uint8)
    for tag in tags:
        y, x, radius = draw.uniform(0, height), draw.uniform(0, width), draw.uniform(0.15, 0.3) * max(height, width)
        distance = np.sqrt((rows - y) ** 2 + (columns - x) ** 2)
        mask[distance < 1.05 * radius] = 255
        mask[distance < radius] = tag
    return mask


def draw_probabilities(number: int, mask: NDArray[np.uint8], num_classes: int) -> NDArray[np.float32]:
    """What an unsure network might say of a mask (H, W): (num_classes, H, W), summing to one, every class winning somewhere."""
    draw = rng("benchmark probabilities", number)
    height, width = mask.shape
    coarse = draw.gumbel(0, 1, (num_classes, -(-height // 8), -(-width // 8))).astype(np.float32)
    logits = coarse.repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width]
    known = mask < num_classes
    rows, columns = np.nonzero(known)
    logits[mask[known], rows, columns] += 3
    exponentials = np.exp(logits - logits.max(axis=0))
    probabilities: NDArray[np.float32] = exponentials / exponentials.sum(axis=0)
    return probabilities


def draw_dataset(folder: Path, count: int, *, height: int, width: int, classes: ClassList) -> Dataset:
    """Write ``images/<id>.jpg``, ``masks/<id>.png``, two tags each, and the index of them in ``dataset/``.

    The records name their files by absolute paths.
    """
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    records = []
    for number in range(count):
        image_id = f"sample_{number:06d}"
        tags = tuple(sorted({1 + (2 * number + step) % len(classes.names) for step in (0, 1)}))
        photo, mask = f"{folder.absolute()}/images/{image_id}.jpg", f"{folder.absolute()}/masks/{image_id}.png"
        Image.fromarray(draw_photo(number, height, width)).save(photo, quality=92)
        write_mask(mask, draw_mask(number, height, width, tags))
        records.append(Record(image_id=image_id, photo=photo, height=height, width=width, split="train", tags=tags, mask=mask))
    dataset = Dataset(name="samples", classes=classes, records=tuple(records))
    write_dataset(dataset, folder / "dataset")
    return dataset
