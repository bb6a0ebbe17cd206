"""PASCAL VOC 2012 with the extra training images of SBD, in the layout of the official archives."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from weakclip.datasets.folder import sources
from weakclip.datasets.index import ClassList, Collection, Dataset, Skipped
from weakclip.datasets.labels import PhotoNames, read_tags, refuse
from weakclip.datasets.lists import read_ids
from weakclip.datasets.tag_vectors import TagVectors
from weakclip.datasets.verification import Candidate, Offer, ascending, verify
from weakclip.errors import WeakClipError

CLASS_NAMES: Final = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat",
    "chair", "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant",
    "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
# Words that CLIP knows better than the compounds of VOC, and what the object is commonly called beside its name.
SYNONYMS: Final = {
    "aeroplane": ("airplane", "plane"),
    "bicycle": ("bike",),
    "cat": ("kitten",),
    "diningtable": ("dining table", "table"),
    "dog": ("puppy",),
    "motorbike": ("motorcycle",),
    "person": ("people", "human"),
    "pottedplant": ("potted plant", "houseplant"),
    "sofa": ("couch",),
    "tvmonitor": ("tv monitor", "television", "screen"),
}
BACKGROUND_WORDS: Final = (
    "ground", "land", "grass", "tree", "building", "wall", "sky", "lake",
    "water", "river", "sea", "railway", "railroad", "helmet", "cloud", "house",
    "mountain", "ocean", "road", "rock", "street", "valley", "bridge", "sign",
)  # fmt: skip
CLASSES: Final = ClassList(
    names=CLASS_NAMES,
    synonyms=tuple(SYNONYMS.get(name, ()) for name in CLASS_NAMES),
    background_words=BACKGROUND_WORDS,
)
INDEX: Final = {name: 1 + position for position, name in enumerate(CLASS_NAMES)}
UNPACK_HINT: Final = "unpack VOCtrainval_11-May-2012.tar, then `weakclip preset voc12 --root DIR`"

Tags = tuple[int, ...]


def read_voc12(raw: Path, *, tags_from: str, on_error: str) -> Collection:
    """VOC 2012 in ``raw/photos`` or ``raw``: a VOC2012 folder, a VOCdevkit, or what holds one.

    Splits: train and val of ``ImageSets/Segmentation``; trainaug is ``trainaug.txt`` without train, where there is one.
    Masks: ``SegmentationClassAug``, else ``SegmentationClass``. ``tags_from``: xml, npy, csv or masks.

    Raises:
        WeakClipError: names what is missing or cannot be used; with ``on_error`` ``skip`` images are left out instead.
    """
    offer = find_candidates(raw, tags_from=tags_from, on_error=on_error)
    records, left_out = verify(offer.candidates, classes=CLASSES, on_error=on_error, skipped=offer.skipped)
    return Collection(dataset=Dataset(name="voc12", classes=CLASSES, records=records), skipped=left_out, notes=offer.notes)


def find_candidates(raw: Path, *, tags_from: str, on_error: str) -> Offer:
    """What `read_voc12` finds, without opening a photo or a mask; parameters and errors are its own."""
    base, root = find_root(sources(raw))
    splits = read_splits(root / "ImageSets" / "Segmentation")
    there = {path.stem for path in (root / "JPEGImages").iterdir() if path.suffix == ".jpg"}
    missing = [image_id for image_id in splits if image_id not in there]
    if missing and on_error == "stop":
        problem = f"{root / 'JPEGImages'} is missing {len(missing):,} of {len(splits):,} images (first: {missing[0]}.jpg)"
        raise WeakClipError(problem, f"{UNPACK_HINT}; or set dataset.on_error to skip")
    photos = {image_id: root / "JPEGImages" / f"{image_id}.jpg" for image_id in splits}
    skipped = [Skipped(file=photos[name].as_posix(), reason=f"{photos[name]} is missing") for name in missing]
    tags_of, notes = tag_source(tags_from, root, base, there, skip=on_error == "skip")
    problems: list[str] = []
    candidates = []
    for image_id, split in splits.items():
        if image_id not in there:
            continue
        try:
            tags = tags_of(image_id)
        except WeakClipError as error:
            problems.append(error.problem)
            skipped.append(Skipped(file=photos[image_id].as_posix(), reason=error.problem))
            continue
        photo, mask = photos[image_id].as_posix(), find_mask(root, image_id)
        candidates.append(
            Candidate(image_id=image_id, photo=photo, split=split, tags=tags, mask=None if mask is None else mask.as_posix())
        )
    if on_error == "stop":
        refuse(root, problems, "mend the tags, take others (dataset.tags_from), or set dataset.on_error to skip")
    return Offer(classes=CLASSES, candidates=ascending(candidates), skipped=skipped, notes=tuple(notes))


def find_root(bases: Sequence[Path]) -> tuple[Path, Path]:
    """The first base that holds VOC, and the folder in it with ``JPEGImages``."""
    for base in bases:
        for root in (base, base / "VOC2012", base / "VOCdevkit" / "VOC2012"):
            if (root / "JPEGImages").is_dir():
                return base, root
    problem = f"{bases[0]} holds no VOC 2012: there is no JPEGImages in it, VOC2012 or VOCdevkit/VOC2012"
    raise WeakClipError(problem, UNPACK_HINT)


def read_splits(folder: Path) -> dict[str, str]:
    """train, trainaug or val by image id."""
    train, val = read_ids(folder / "train.txt"), read_ids(folder / "val.txt")
    more = read_ids(folder / "trainaug.txt") if (folder / "trainaug.txt").exists() else []
    both = sorted({*train, *more} & {*val})
    if both:
        problem = f"{folder}: {len(both):,} images of val are in train or trainaug as well (first: {both[0]})"
        raise WeakClipError(problem, "take them off one of the lists: trainaug.txt is trained on, val.txt is scored")
    splits = dict.fromkeys(more, "trainaug") | dict.fromkeys(train, "train") | dict.fromkeys(val, "val")
    return dict(sorted(splits.items()))


def find_mask(root: Path, image_id: str) -> Path | None:
    """The mask of an image: SBD's in VOC's form first, then VOC's own; None where there is none."""
    for name in ("SegmentationClassAug", "SegmentationClass"):
        path = root / name / f"{image_id}.png"
        if path.exists():
            return path
    return None


def tag_source(
    tags_from: str, root: Path, base: Path, there: set[str], *, skip: bool
) -> tuple[Callable[[str], Tags | None], list[str]]:
    """The function from image id to tags (None: from the mask), and what to tell the user."""
    if tags_from in ("json", "lines"):
        raise WeakClipError(f"dataset.tags_from is {tags_from}, which VOC does not have", "set it to xml, npy or csv")
    if tags_from == "masks":
        note = "tags were read from the ground-truth masks (dataset.tags_from: masks): this is not weak supervision"
        return (lambda image_id: None), [note]
    if tags_from == "xml":
        if not (root / "Annotations").is_dir():
            raise WeakClipError(f"{root / 'Annotations'} is missing", f"{UNPACK_HINT}, or set dataset.tags_from to npy or csv")
        return (lambda image_id: xml_tags(root / "Annotations" / f"{image_id}.xml")), []
    if tags_from == "npy":
        path = find_file("cls_labels.npy", (root, base))
        vectors = TagVectors(path, {len(CLASS_NAMES): tuple(range(1, 1 + len(CLASS_NAMES)))})
        return (lambda image_id: vectors.tags(image_id)), []
    path = find_file("tags.csv", (root, base))
    photos = PhotoNames(f"{image_id}.jpg" for image_id in sorted(there))
    listed = read_tags(path, CLASSES, photos, skip_missing=skip)
    return (lambda image_id: listed.entries.get(image_id, ())), []


def find_file(name: str, folders: Sequence[Path]) -> Path:
    """The file of that name in the first folder that has one. Raises WeakClipError where none has."""
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise WeakClipError(f"{folders[0] / name} is missing", "put it there, or set dataset.tags_from to xml")


def xml_tags(path: Path) -> Tags:
    """The classes of the objects of an annotation, difficult ones too; none where there is no annotation."""
    if not path.exists():
        return ()
    if not path.is_file():
        raise WeakClipError(f"{path.name} is no file", UNPACK_HINT)  # a pipe would be waited for
    try:
        names = {(item.findtext("name") or "").strip() for item in ElementTree.parse(path).getroot().findall("object")}
    except (ElementTree.ParseError, ValueError, LookupError, OSError) as error:
        raise WeakClipError(f"{path.name} is not XML: {error}", UNPACK_HINT) from error
    unknown = sorted(names - INDEX.keys())
    if unknown:
        raise WeakClipError(f"{path.name} names {unknown[0]!r}, which is none of the 20 classes", UNPACK_HINT)
    return tuple(sorted(INDEX[name] for name in names))
