"""Files to and from the released WeakCLIP code and its kin: masks, class scores, lists and tags.

Its masks are grey PNGs of class numbers, its scores `weakclip.prob_npy` dictionaries, both called by the image's id; its lists
hold an id a line; tags travel as ``cls_labels.npy``. On COCO it numbers classes by category id, which is translated here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from weakclip.datasets.coco_annotations import short_id
from weakclip.datasets.coco_classes import SLOTS, from_slots, to_slots
from weakclip.datasets.index import Dataset, Record
from weakclip.datasets.lists import write_ids, write_tagged_ids
from weakclip.datasets.tag_vectors import write_tag_vectors
from weakclip.errors import WeakClipError
from weakclip.masks import IGNORE, read_mask, write_mask
from weakclip.prob_npy import SavedScores, read_prob_npy, write_prob_npy
from weakclip.process_pool import in_processes, note
from weakclip.scores import ScoreStore

CHUNK: Final = 32  # images a task
Mask = NDArray[np.uint8]


@dataclass(frozen=True)
class Numbering:
    """How the released code numbers the classes of a dataset and calls its images, against this project.

    ``numbers``: its number of each class, background first; the functions translate whole masks.
    """

    numbers: Sequence[int]
    from_released: Callable[[Mask], Mask]
    to_released: Callable[[Mask], Mask]
    image_id: Callable[[str], str]


def unchanged(mask: Mask) -> Mask:
    """The mask (H, W) uint8 as it is: for classes that are numbered alike."""
    return mask


def numbering(dataset: str, num_classes: int) -> Numbering:
    """That of a dataset by name: category ids and short image ids for ``coco14``, no difference for others."""
    if dataset == "coco14":
        return Numbering(numbers=SLOTS, from_released=from_slots, to_released=to_slots, image_id=short_id)
    return Numbering(numbers=range(num_classes), from_released=unchanged, to_released=unchanged, image_id=str)


def import_masks(source: Path, folder: Path, dataset: str, num_classes: int, workers: int) -> Iterator[str]:
    """Turn the masks (``.png``) and class scores (``.npy``) of a folder into this project's masks, ``<image_id>.png``.

    Of scores the largest counts. Yields the ids as they are done.

    Raises:
        WeakClipError: names the file that cannot be used, or two files of one image.
    """
    files = sorted(path for path in source.glob("*.*") if path.suffix in (".png", ".npy"))
    ids = [numbering(dataset, num_classes).image_id(path.stem) for path in files]
    twice = sorted({image_id for image_id, after in zip(sorted(ids), sorted(ids)[1:], strict=False) if image_id == after})
    if twice:
        raise WeakClipError(f"{source} has two files of {twice[0]}", "keep either its mask or its scores")
    chunks = [list(zip(files, ids, strict=True))[start : start + CHUNK] for start in range(0, len(files), CHUNK)]
    tasks = ((chunk, folder, dataset, num_classes) for chunk in chunks)
    for done in in_processes(_import_chunk, tasks, max(1, min(workers, len(chunks)))):
        yield from done


def count_files(source: Path) -> int:
    """How many images `import_masks` would turn."""
    return sum(path.suffix in (".png", ".npy") for path in source.glob("*.*"))


def _import_chunk(files: Sequence[tuple[Path, str]], folder: Path, dataset: str, num_classes: int) -> list[str]:
    for path, image_id in files:
        note(str(path))
        write_mask(folder / f"{image_id}.png", released_mask(path, dataset, num_classes))
    return [image_id for _, image_id in files]


def released_mask(path: Path, dataset: str, num_classes: int) -> Mask:
    """One mask (H, W), or the mask that one file of scores amounts to, in this project's numbering.

    Raises:
        WeakClipError: the file is damaged or holds an index beyond the classes.
    """
    try:
        labels = read_mask(path) if path.suffix == ".png" else read_prob_npy(path).labels
        mask = numbering(dataset, num_classes).from_released(labels)
        beyond = mask[(mask >= num_classes) & (mask != IGNORE)]
        if beyond.size:
            raise ValueError(f"expected classes 0 to {num_classes - 1} or {IGNORE}, got {beyond.max()}")
    except ValueError as error:
        raise WeakClipError(f"{path}: {error}", "name the classes that it was made with: voc12, coco14 or a file") from error
    return mask


def export_lists(dataset: Dataset, folder: Path) -> None:
    """Write ``train.txt``, ``trainaug.txt`` (train and more, where there is more), ``val.txt`` and ``cls_labels.npy``.

    For COCO also CLIP-ES's lists with tags, ``clip_es_train.txt`` and ``clip_es_val.txt``, which name photos by their files.
    """
    splits = {name: [record.image_id for record in dataset.records if record.split == name] for name in ("train", "val")}
    everything = [record.image_id for record in dataset.training]
    if len(everything) > len(splits["train"]):
        splits["trainaug"] = everything
    for name, image_ids in splits.items():
        write_ids(folder / f"{name}.txt", image_ids)
    write_tag_vectors(folder / "cls_labels.npy", dataset.records, dataset.classes.num_classes)
    if dataset.name == "coco14":
        for name, records in (("train", dataset.training), ("val", dataset.val)):
            write_tagged_ids(folder / f"clip_es_{name}.txt", {Path(record.photo).stem: record.tags for record in records})


def export_mask(record: Record, masks: Path, folder: Path, numbers: Numbering) -> None:
    """Write ``masks/<image_id>.png`` as a grey PNG in the released numbering."""
    mask = numbers.to_released(read_mask(masks / f"{record.image_id}.png"))
    Image.fromarray(mask).save(folder / f"{record.image_id}.png", format="PNG")


def export_scores(records: Iterable[Record], scores: Path, folder: Path, numbers: Numbering) -> Iterator[str]:
    """Write the stored class scores of the records as the released code saves its own; yields the ids as they are done."""
    store = ScoreStore(scores)
    released = np.asarray(numbers.numbers, dtype=np.int64)
    for record in records:
        classes, probabilities = store.read(record.image_id)
        order = np.argsort(classes)
        saved = SavedScores(classes=released[classes[order]], probabilities=probabilities[order].astype(np.float32))
        write_prob_npy(folder / f"{record.image_id}.npy", saved)
        yield record.image_id
