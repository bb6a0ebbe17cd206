"""COCO 2014, in the layout of the official archives or in that of the released WeakCLIP code.

::

    annotations/instances_train2014.json, instances_val2014.json
    train2014/, val2014/          photos; or images/train2014/, images/val2014/; or both splits in images/, as <12 digits>.jpg
    voc_format/                   optional: train.txt, val.txt or val_5000.txt; class_labels/ where there are no annotations
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from weakclip.datasets.coco_annotations import HINT, AnnotatedImage, read_instances, render_mask, short_id
from weakclip.datasets.coco_classes import CLASS_OF_CATEGORY, CLASSES
from weakclip.datasets.folder import sources
from weakclip.datasets.index import Collection, Dataset, Record, Skipped, kept_aside
from weakclip.datasets.labels import PhotoNames, read_tags, refuse
from weakclip.datasets.lists import read_ids, read_tagged_ids
from weakclip.datasets.tag_vectors import TagVectors
from weakclip.datasets.verification import Candidate, Offer, ascending, verify
from weakclip.errors import WeakClipError
from weakclip.masks import write_mask
from weakclip.process_pool import in_processes, note
from weakclip.progress import track
from weakclip.workers import workers

CHUNK: Final = 64  # masks a task
LISTS: Final = {"train": ("train.txt",), "val": ("val.txt", "val_5000.txt")}
UNPACK_HINT: Final = (
    "unpack train2014.zip, val2014.zip and annotations_trainval2014.zip, then `weakclip preset coco14 --root DIR`"
)
# The vectors of MCTformer and RIB have a place for each class, those of WeakTr one for each category id.
VECTORS: Final = {
    80: tuple(range(1, 81)),
    90: tuple(CLASS_OF_CATEGORY.get(category) for category in range(1, 91)),
}

Tags = tuple[int, ...]


@dataclass(frozen=True)
class Split:
    """A split of the layout: its ids in order, the list they are from, if any, and the annotations by id, if any."""

    name: str
    image_ids: tuple[str, ...]
    listed: Path | None
    annotated: Mapping[str, AnnotatedImage] | None


def read_coco14(raw: Path, folder: Path, *, final: Path, tags_from: str, on_error: str) -> Collection:
    """COCO 2014 in ``raw/photos`` or ``raw``; masks are rendered into ``folder/masks``.

    ``final``: where the folder will stand when it is complete; the records name the masks there. Splits are those of the
    lists, or else of the annotations. Training images without a tag are left out.
    ``tags_from``: json, npy, lines, csv or masks.

    Raises:
        WeakClipError: names what is missing or cannot be used; with ``on_error`` ``skip`` images are left out instead.
    """
    offer = find_candidates(raw, folder, tags_from=tags_from, on_error=on_error)
    found, left_out = verify(offer.candidates, classes=CLASSES, on_error=on_error, skipped=offer.skipped)
    records = kept_aside((move_mask(record, folder, final) for record in found), CLASSES)
    return Collection(dataset=Dataset(name="coco14", classes=CLASSES, records=records), skipped=left_out, notes=offer.notes)


def find_candidates(raw: Path, folder: Path, *, tags_from: str, on_error: str) -> Offer:
    """What `read_coco14` finds, without opening a photo, the masks rendered into the folder; parameters and errors are its
    own."""
    if tags_from == "xml":
        raise WeakClipError("dataset.tags_from is xml, which COCO does not have", "set it to json, npy, lines or csv")
    base, root = find_root(sources(raw))
    photos = find_photos(root)
    (folder / "masks").mkdir(parents=True, exist_ok=True)
    candidates: list[Candidate] = []
    skipped: list[Skipped] = []
    notes: list[str] = []
    for name in LISTS:
        split = read_split(root, name)
        if split is None:
            continue
        missing = [image_id for image_id in split.image_ids if image_id not in photos]
        if missing and on_error == "stop":
            problem = (
                f"{root} is missing {len(missing):,} of {len(split.image_ids):,} photos of {name} (first: {missing[0]}.jpg)"
            )
            raise WeakClipError(problem, f"{UNPACK_HINT}; or set dataset.on_error to skip")
        skipped += [Skipped(file=f"{image_id}.jpg", reason=f"the photo {image_id}.jpg is missing") for image_id in missing]
        there = [image_id for image_id in split.image_ids if image_id in photos]
        tags_of = tag_source(tags_from, split, (root / "voc_format", root, base), photos, skip=on_error == "skip")
        tags, problems = collect_tags(there, tags_of)
        if on_error == "stop":
            refuse(root, list(problems.values()), "mend the tags, or take others (dataset.tags_from)")
        skipped += [Skipped(file=photos[image_id].as_posix(), reason=reason) for image_id, reason in problems.items()]
        kept = [image_id for image_id in tags if name == "val" or tags[image_id] != ()]
        if len(kept) < len(tags):
            notes.append(f"photos of {name} that have none of the 80 classes and are left out: {len(tags) - len(kept):,}")
        if split.listed is not None and split.listed.name == "val_5000.txt":
            notes.append(f"val is the subset of {split.listed}; the published figures are on all of val2014")
        masks = find_masks(root, split, kept, folder / "masks")
        candidates += [
            Candidate(
                image_id=image_id,
                photo=photos[image_id].as_posix(),
                split=name,
                tags=tags[image_id],
                mask=masks[image_id].as_posix() if image_id in masks else None,
            )
            for image_id in kept
        ]
    refuse_both(root, candidates)
    if tags_from == "masks":
        notes.append("tags were read from the ground-truth masks (dataset.tags_from: masks): this is not weak supervision")
    return Offer(classes=CLASSES, candidates=ascending(candidates), skipped=skipped, notes=tuple(notes))


def find_root(bases: Sequence[Path]) -> tuple[Path, Path]:
    """The first base that holds COCO 2014, and the folder in it with the annotations or the lists."""
    for base in bases:
        for root in (base, *(base / name for name in ("COCO14", "coco14", "coco", "COCO"))):
            if (root / "annotations" / "instances_train2014.json").is_file() or (root / "voc_format" / "train.txt").is_file():
                return base, root
    problem = f"{bases[0]} holds no COCO 2014: there is no annotations/instances_train2014.json and no voc_format/train.txt"
    raise WeakClipError(problem, UNPACK_HINT)


def find_photos(root: Path) -> dict[str, Path]:
    """Photos by image id; copies that the released code's converter made go before the original ones, as it reads those."""
    photos: dict[str, Path] = {}
    for name in ("images", "train2014", "val2014", "images/train2014", "images/val2014"):
        for path in sorted((root / name).glob("*.jpg")):
            photos.setdefault(short_id(path.name), path)
    return photos


def read_split(root: Path, name: str) -> Split | None:
    """A split from its list and its annotations, whichever there are; None where there is neither, but train must be."""
    listed = next((path for file in LISTS[name] if (path := root / "voc_format" / file).is_file()), None)
    annotations = root / "annotations" / f"instances_{name}2014.json"
    if listed is None and not annotations.is_file() and name == "val":
        return None
    annotated = read_instances(annotations) if listed is None or annotations.is_file() else None
    image_ids = annotated if listed is None else {short_id(image_id): None for image_id in read_ids(listed)}
    return Split(name=name, image_ids=tuple(image_ids or ()), listed=listed, annotated=annotated)


def tag_source(
    tags_from: str, split: Split, places: Sequence[Path], photos: Mapping[str, Path], *, skip: bool
) -> Callable[[str], Tags | None]:
    """The function from image id to tags; None: from the mask."""
    if tags_from == "masks":
        return lambda image_id: None if split.annotated is None or annotated_tags(split, image_id) else ()
    if tags_from == "json":
        if split.annotated is None:
            raise WeakClipError(f"the annotations of {split.name} are missing, which dataset.tags_from json needs", HINT)
        return lambda image_id: annotated_tags(split, image_id)
    if tags_from == "npy":
        vectors = TagVectors(find_file("cls_labels.npy", places), VECTORS)
        return lambda image_id: vectors.tags(image_id, f"COCO_{split.name}2014_{image_id}")
    if tags_from == "lines":
        if split.listed is None:
            problem = f"{places[0] / LISTS[split.name][0]} is missing, which dataset.tags_from lines needs"
            raise WeakClipError(problem, "put CLIP-ES's coco14/train.txt and coco14/val.txt there")
        lines = read_tagged_ids(split.listed, CLASSES.num_classes)
        by_id = {short_id(name): tags for name, tags in lines.items()}
        return lambda image_id: by_id[image_id]
    names = PhotoNames(f"{image_id}.jpg" for image_id in sorted(photos))
    listed = read_tags(find_file("tags.csv", places), CLASSES, names, skip_missing=skip)
    return lambda image_id: listed.entries.get(image_id, ())


def annotated_tags(split: Split, image_id: str) -> Tags:
    """The classes, from 1 and ascending, of an image of the split. Raises WeakClipError where it is not in the annotations."""
    if split.annotated is None or image_id not in split.annotated:
        raise WeakClipError(f"{image_id} is not in the annotations of {split.name}", HINT)
    return split.annotated[image_id].tags


def collect_tags(
    image_ids: Sequence[str], tags_of: Callable[[str], Tags | None]
) -> tuple[dict[str, Tags | None], dict[str, str]]:
    """Tags by image id, and what is wrong with those of the other images."""
    tags: dict[str, Tags | None] = {}
    problems: dict[str, str] = {}
    for image_id in image_ids:
        try:
            tags[image_id] = tags_of(image_id)
        except WeakClipError as error:
            problems[image_id] = error.problem
    return tags, problems


def find_file(name: str, folders: Sequence[Path]) -> Path:
    """The file of that name in the first folder that has one. Raises WeakClipError where none has."""
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise WeakClipError(f"{folders[0] / name} is missing", "put it there, or set dataset.tags_from to json")


def find_masks(root: Path, split: Split, image_ids: Sequence[str], folder: Path) -> dict[str, Path]:
    """Masks by image id: rendered into the folder where there are annotations, else those that the converter rendered."""
    if split.annotated is None:
        paths = {image_id: root / "voc_format" / "class_labels" / f"{image_id}.png" for image_id in image_ids}
        return {image_id: path for image_id, path in paths.items() if path.is_file()}
    images = [split.annotated[image_id] for image_id in image_ids if image_id in split.annotated]
    chunks = [images[start : start + CHUNK] for start in range(0, len(images), CHUNK)]
    tasks = ((chunk, folder) for chunk in chunks)
    results = in_processes(write_rendered, tasks, max(1, min(workers(), len(chunks))))
    rendered = (path for paths in results for path in paths)
    return {path.stem: path for path in track(rendered, total=len(images), title=f"rendering masks of {split.name}")}


def write_rendered(images: Sequence[AnnotatedImage], folder: Path) -> list[Path]:
    """Render the masks of the images into the folder; the paths of the files, in the images' order."""
    paths = [folder / f"{image.image_id}.png" for image in images]
    for image, path in zip(images, paths, strict=True):
        note(f"the annotations of {image.image_id}")
        write_mask(path, render_mask(image))
    return paths


def refuse_both(root: Path, candidates: Sequence[Candidate]) -> None:
    """Raise WeakClipError, with the first of them, where images are in train and in val."""
    train, val = ({item.image_id for item in candidates if item.split == name} for name in LISTS)
    if train & val:
        problem = f"{root}: {len(train & val):,} images of val are in train as well (first: {min(train & val)})"
        raise WeakClipError(problem, "take them off one of the lists: train.txt is trained on, val.txt is scored")


def move_mask(record: Record, folder: Path, final: Path) -> Record:
    """The record with a rendered mask named where it will stand."""
    if record.mask is None or not Path(record.mask).is_relative_to(folder):
        return record
    return replace(record, mask=(final / Path(record.mask).relative_to(folder)).as_posix())
