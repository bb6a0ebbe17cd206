"""The ``folder`` layout: any folder of photos with tags, as a team with a shared drive has it.

::

    images/          photos, in any depth of folders, or all that lies beside the files below; see `image_ids` for their ids
    classes.txt      a class a line, `name` or `name: synonym, synonym`; background words after a line `[background]`
    tags.csv         `image,tags`, tags joined by `;`          (or tags.json: {image: [tags]})
    masks/           optional: `<id>.png`, class indices, 255 = ignore
    splits/          optional: train.txt and val.txt, an image a line
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Container, Iterable, Iterator, Sequence
from pathlib import Path

from weakclip.datasets.image_ids import composed, ending, image_ids, stem
from weakclip.datasets.index import Collection, Dataset, Skipped
from weakclip.datasets.labels import Listed, PhotoNames, is_unicode, read_classes, read_split, read_tags
from weakclip.datasets.verification import Candidate, Offer, ascending, verify
from weakclip.errors import WeakClipError, one_line
from weakclip.images import PHOTO_ENDINGS

LONGEST_NAME = 200  # bytes of an id or of a name without its ending; a file system takes 255, and what is made adds its own
NO_PHOTOS = ("masks", "splits")  # folders beside photos that lie in no folder of their own
LINK_HINT = "`weakclip preset folder --root DIR` links a folder of photos to data/raw/photos"


def read_folder(raw: Path, *, tags_from: str, on_error: str, val_share: float, seed: int) -> Collection:
    """The dataset in ``raw/photos``, or in ``raw`` itself where the photos are there.

    Without ``splits/``, ``val_share`` of the images that have tags or a mask is held out, drawn from ``seed`` and the ids.

    Raises:
        WeakClipError: names the file and line that cannot be used; with ``on_error`` ``skip`` photos are left out instead.
    """
    offer = find_candidates(raw, tags_from=tags_from, skip=on_error == "skip", val_share=val_share, seed=seed)
    records, left_out = verify(offer.candidates, classes=offer.classes, on_error=on_error, skipped=offer.skipped)
    dataset = Dataset(name="folder", classes=offer.classes, records=records)
    return Collection(dataset=dataset, skipped=left_out, notes=offer.notes)


def find_candidates(raw: Path, *, tags_from: str, skip: bool, val_share: float, seed: int) -> Offer:
    """What `read_folder` finds, without opening a photo or a mask; parameters and errors are its own."""
    if tags_from not in ("csv", "masks"):
        raise WeakClipError(
            f"dataset.tags_from is {tags_from}, which a folder of photos does not have",
            "set dataset.tags_from to csv (tags.csv or tags.json), or to masks",
        )
    places = sources(raw)
    root = next((place for place in places if (place / "images").is_dir()), places[0])
    folder = photo_folder(root)
    photos, skipped = find_photos(folder)
    names = PhotoNames(below(folder, path) for path in photos.values())
    classes = read_classes(root / "classes.txt")
    tags = Listed() if tags_from == "masks" else read_tags(tags_file(root), classes, names, skip_missing=skip)
    masks, notes = find_masks(root / "masks", photos, names)
    if tags_from == "masks":
        notes.append("tags were read from the ground-truth masks (dataset.tags_from: masks): this is not weak supervision")
    lists: list[tuple[Path, Listed]] = [(tags_file(root), tags)] if tags.missing else []
    if has_folder(root / "splits"):
        parts = {name: read_split_file(root, name, names, skip) for name in ("train", "val")}
        lists += [(split_file(root, name), listed) for name, listed in parts.items()]
        splits = join_splits(root, parts["train"], parts["val"])
    else:
        with_tags = masks if tags_from == "masks" else {image_id for image_id, found in tags.entries.items() if found}
        splits = draw_splits(photos, with_tags=set(with_tags), with_mask=set(masks), val_share=val_share, seed=seed)
    missing: dict[str, str] = {}
    for path, listed in lists:
        missing = {name: f"{path}: {reason}" for name, reason in listed.missing.items()} | missing
    skipped += [Skipped(file=name, reason=missing[name]) for name in sorted(missing)]
    if len(splits) < len(photos):
        notes.append(f"photos that are in no split and left out: {len(photos) - len(splits):,}")
    candidates = (
        Candidate(
            image_id=image_id,
            photo=photos[image_id],
            split=split,
            tags=None if tags_from == "masks" else tags.entries.get(image_id, ()),
            mask=masks.get(image_id),
        )
        for image_id, split in splits.items()
    )
    return Offer(classes=classes, candidates=ascending(candidates), skipped=skipped, notes=tuple(notes))


def sources(raw: Path) -> tuple[Path, ...]:
    """Where a dataset may be: the link ``raw/photos``, which in a fresh project leads to an empty folder, then ``raw``.

    Raises:
        WeakClipError: the link leads nowhere, as when a drive is not mounted.
    """
    link = raw / "photos"
    if link.is_symlink() and not link.exists():
        raise WeakClipError(f"{link} leads to {link.readlink()}, which is not there", LINK_HINT)
    return (link, raw) if link.exists() else (raw,)


def photo_folder(root: Path) -> Path:
    """Where the photos of a dataset are: ``root/images``, or ``root`` itself where there is no such folder but photos."""
    images = root / "images"
    there = not images.is_dir() and any(map(is_photo, walk(root, NO_PHOTOS)))
    return root if there else images


def has_folder(path: Path) -> bool:
    """Whether a folder is there that need not be.

    Raises:
        WeakClipError: something else is, such as a link to a drive that is not mounted.
    """
    if os.path.lexists(path) and not path.is_dir():
        raise WeakClipError(f"{path} is no folder, or leads to none", "put the folder there, or remove what has its name")
    return path.is_dir()


def walk(folder: Path, left_out: Sequence[str] = ()) -> Iterator[str]:
    """The paths of all files below a folder but hidden ones, in a fixed order, as texts (see `weakclip.file_names`); links are
    followed, each real folder is entered once.

    ``left_out``: folders directly in it that are not entered.
    """
    visited: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        not_entered = left_out if Path(place) == folder else ()
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in not_entered)
        begin = "" if place == "." else f"{place.rstrip('/')}/".removeprefix("./")
        files.sort()
        yield from (f"{begin}{name}" for name in files if not name.startswith("."))


def is_photo(path: str) -> bool:
    """Whether the ending of a file is that of a photo."""
    return ending(path).lower() in PHOTO_ENDINGS


def below(folder: Path, path: str) -> str:
    """The path of a file in a folder, as `walk` gives it, relative to the folder."""
    return path.removeprefix(f"{folder.as_posix().rstrip('/')}/")


def find_photos(folder: Path) -> tuple[dict[str, str], list[Skipped]]:
    """The paths of photos by image id, and files whose names cannot be written down.

    Raises:
        WeakClipError: there is no such folder, no photo in it, or two photos share an id.
    """
    if not folder.is_dir():
        raise WeakClipError(f"{folder} is missing: there are no photos", LINK_HINT)
    paths: list[str] = []
    skipped: list[Skipped] = []
    for path in walk(folder, () if folder.name == "images" else NO_PHOTOS):
        if not is_photo(path):
            continue
        if reason := wrong_name(path):
            file = one_line(os.fsencode(path).decode("utf-8", "backslashreplace"))
            skipped.append(Skipped(file=file, reason=f"{file}: {reason}"))
            continue
        paths.append(path)
    ids = image_ids(below(folder, path) for path in paths)
    while long := {path for image_id, path in zip(ids, paths, strict=True) if len(image_id.encode()) > LONGEST_NAME}:
        reason = f"with the folders that tell it apart its name has more than {LONGEST_NAME} bytes"
        skipped += [Skipped(file=path, reason=f"{path}: {reason}") for path in sorted(long)]
        paths = [path for path in paths if path not in long]
        ids = image_ids(below(folder, path) for path in paths)  # of the others, as `PhotoNames` finds them
    photos: dict[str, str] = {}
    for image_id, file in zip(ids, paths, strict=True):
        if image_id in photos:
            raise WeakClipError(
                f"{photos[image_id]} and {file} would both be the image {image_id!r}",
                "rename one of them: without its ending, a file name must be unique in its folder",
            )
        photos[image_id] = file
    if not photos:
        raise WeakClipError(f"{folder} holds no photos", LINK_HINT)
    return photos, skipped


def wrong_name(path: str) -> str | None:
    """Why a file of this name cannot be used: it could not be written into a list, a line each, or given an ending."""
    if not is_unicode(path):
        return "the file name is not UTF-8"
    if one_line(path) != path:
        return "the file name holds a line end or another control character"
    if len(stem(path).encode()) > LONGEST_NAME:
        return f"the file name has more than {LONGEST_NAME} bytes"
    return None


def find_masks(folder: Path, photos: Container[str], names: PhotoNames) -> tuple[dict[str, str], list[str]]:
    """The paths of masks by image id, and what to tell the user about files that are none.

    A mask lies in the folders of its photo, or is called by the image's id.
    """
    masks: dict[str, str] = {}
    without_photo, no_png = 0, 0
    for path in walk(folder) if has_folder(folder) else ():
        image_id = names.find(below(folder, path).removesuffix(ending(path))) or composed(stem(path))
        if ending(path).lower() != ".png":
            no_png += 1
        elif image_id not in photos:
            without_photo += 1
        elif image_id in masks:
            raise WeakClipError(f"{masks[image_id]} and {path} are both masks of {image_id!r}", "remove one of them")
        else:
            masks[image_id] = path
    notes = [f"files in {folder} that are no PNGs and not used: {no_png:,}"] if no_png else []
    notes += [f"masks in {folder} that have no photo of their name: {without_photo:,}"] if without_photo else []
    return masks, notes


def tags_file(root: Path) -> Path:
    """``tags.csv`` or ``tags.json``, whichever there is."""
    found = [root / name for name in ("tags.csv", "tags.json") if (root / name).exists()]
    if len(found) == 2:
        raise WeakClipError(f"{found[0]} and {found[1]} are both there", "keep the one that holds")
    if not found:
        raise WeakClipError(
            f"{root / 'tags.csv'} is missing", "write a line `image,tags`, then a line a photo: `x.jpg,cat;dog`"
        )
    return found[0]


def split_file(root: Path, name: str) -> Path:
    """Where the list of a split is: ``splits/<name>.txt``."""
    return root / "splits" / f"{name}.txt"


def read_split_file(root: Path, name: str, names: PhotoNames, skip: bool) -> Listed:
    """The images of a split; none where there is no list of val."""
    path = split_file(root, name)
    if name == "val" and not os.path.lexists(path):  # a link that leads nowhere is one to a list that is missing
        return Listed()
    return read_split(path, names, skip_missing=skip)


def join_splits(root: Path, train: Listed, val: Listed) -> dict[str, str]:
    """Split by image id. Raises WeakClipError where an image is in both."""
    both = sorted(train.entries.keys() & val.entries.keys())
    if both:
        raise WeakClipError(
            f"{both[0]} is in both {split_file(root, 'train')} and {split_file(root, 'val')} ({len(both):,} images are)",
            "take them off one of the lists",
        )
    return dict.fromkeys(train.entries, "train") | dict.fromkeys(val.entries, "val")


def draw_splits(
    image_ids: Iterable[str], *, with_tags: set[str], with_mask: set[str], val_share: float, seed: int
) -> dict[str, str]:
    """A split by image id: a share of the useful images for val, the other ones with tags for train.

    The draw ranks hashes of seed and id: a photo more or less changes the split of few others.
    """
    useful = [image_id for image_id in image_ids if image_id in with_tags or image_id in with_mask]
    useful.sort(key=lambda image_id: hashlib.blake2b(f"{seed} {image_id}".encode()).digest())
    number = min(round(val_share * len(useful)), len(useful) - 1) if useful else 0
    splits = dict.fromkeys(useful[:number], "val")
    return splits | dict.fromkeys((image_id for image_id in useful[number:] if image_id in with_tags), "train")
