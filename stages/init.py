"""Describe a folder of photos so that the pipeline can read it: not a stage, `weakclip init` runs it.

Reads photos and what says their classes. Writes `tags.csv`, `classes.txt` and `splits/` beside the photos.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from weakclip.datasets.discovery import Discovery, discover
from weakclip.datasets.folder import draw_splits, find_masks, has_folder
from weakclip.datasets.index import ClassList
from weakclip.datasets.labels import PhotoNames, read_classes, read_tags
from weakclip.datasets.mini import BACKGROUND_WORDS
from weakclip.disk_space import write_whole
from weakclip.errors import WeakClipError
from weakclip.params import load
from weakclip.progress import say

VAL_SHARE: Final = 0.1
SEED: Final = 0
# What objects stand on and before: the mini CLIP knows its own words only; the others are from photos at large.
SURROUNDINGS: Final = (
    "ground", "grass", "field", "sand", "snow", "rock", "water", "river", "lake", "sea", "sky", "cloud", "tree", "forest",
    "mountain", "road", "street", "bridge", "rail", "building", "house", "wall", "floor", "carpet", "window", "curtain",
)  # fmt: skip
WORDS: Final[Mapping[str, tuple[str, ...]]] = {"folder": BACKGROUND_WORDS, "folder-openai": SURROUNDINGS}


def plan(folder: Path, preset: str, tags: Path | None, *, overwrite: bool) -> dict[Path, str]:
    """Say what was found and what is of no use; return the files to write and their texts. Writes nothing.

    Raises:
        WeakClipError: nothing can be made of the folder, or a file that is there already would become another.
    """
    if preset not in WORDS:
        raise WeakClipError(f"{preset!r} is not a preset for a folder of photos", f"there are: {', '.join(WORDS)}")
    if not folder.is_dir():
        raise WeakClipError(f"{folder} is not a folder", "give the folder of your photos: `weakclip init DIR`")
    found = discover(folder, tags)
    report(found)
    files = described(found, preset)
    for path in files:
        if path.exists() and not path.is_file():
            raise WeakClipError(f"{path} is no file", "move it away: init writes a list there")
    has_folder(folder / "splits")
    former = {path: path.read_text(encoding="utf-8", errors="replace") for path in files if path.exists()}
    replaced = [path for path, text in former.items() if text != files[path]]
    if replaced and not overwrite:
        names = ", ".join(path.relative_to(folder).as_posix() for path in replaced)
        hint = "keep them and run `weakclip preset folder --root DIR`, or replace them: --overwrite"
        raise WeakClipError(f"{folder} has {names} already, which would become different", hint)
    return files


def fits(params: Path, preset: str) -> bool:
    """Whether the parameters are right and were made from the preset: what somebody has changed in them since is kept."""
    try:
        p = load(params)
    except WeakClipError:
        return False
    return p.dataset.name == "folder" and (p.clip.model == "mini") == (preset == "folder")


def report(found: Discovery) -> None:
    """Print photos, classes with their number of photos, and what cannot be used."""
    say(f"{len(found.photos):,} photos in {found.folder}; tags from {found.source}")
    for name in found.classes:
        say(f"  {sum(name in names for names in found.tags.values()):>6,}  {name}")
    for note in found.notes:
        say(f"  note: {note}")


def described(found: Discovery, preset: str) -> dict[Path, str]:
    """The files that describe the photos. A class list that is there already holds; so does a list of tags in its own form."""
    files: dict[Path, str] = {}
    class_file = found.root / "classes.txt"
    if class_file.exists() and not (unknown := sorted({*found.classes} - {*read_classes(class_file).names})):
        classes = read_classes(class_file)
    else:
        if class_file.exists():
            say(f"  note: {class_file} does not have {', '.join(unknown[:5])}")
        known = {name.casefold() for name in found.classes}
        words = tuple(word for word in WORDS[preset] if word not in known)
        classes = ClassList(names=found.classes, synonyms=((),) * len(found.classes), background_words=words)
        files[class_file] = "\n".join([*classes.names, "", "[background]", *classes.background_words]) + "\n"
    if found.source not in (found.root / "tags.csv", found.root / "tags.json"):
        files[found.root / "tags.csv"] = table(found)
    else:
        check(found, classes)
    for name, image_ids in splits(found).items():
        files[found.root / "splits" / f"{name}.txt"] = "".join(f"{found.name_of(image_id)}\n" for image_id in image_ids)
    return files


def check(found: Discovery, classes: ClassList) -> None:
    """Refuse a tags.csv or tags.json that can be made sense of, but not by the pipeline."""
    try:
        read_tags(found.source, classes, names_of(found), skip_missing=True)
    except WeakClipError as error:
        hint = f"call it otherwise, such as labels{found.source.suffix}: init then writes the tags.csv that the pipeline reads"
        raise WeakClipError(error.problem, hint) from error


def names_of(found: Discovery) -> PhotoNames:
    """The names by which lists may call the photos that were found."""
    return PhotoNames(map(found.name_of, found.photos))


def table(found: Discovery) -> str:
    """``tags.csv``."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("image", "tags"))
    writer.writerows(
        (found.name_of(image_id), ";".join(found.tags[image_id])) for image_id in found.photos if image_id in found.tags
    )
    return file.getvalue()


def splits(found: Discovery) -> dict[str, list[str]]:
    """Image ids of train and val: as the folders say, or a tenth drawn for val. A photo to train on has a class."""
    split_of = found.splits
    if not split_of:
        masks, _ = find_masks(found.root / "masks", found.photos, names_of(found))
        split_of = draw_splits(
            dict(found.photos), with_tags=set(found.tags), with_mask=set(masks), val_share=VAL_SHARE, seed=SEED
        )
    ids: dict[str, list[str]] = {"train": [], "val": []}
    for image_id in sorted(split_of):
        if split_of[image_id] == "val" or image_id in found.tags:
            ids[split_of[image_id]].append(image_id)
    return {name: listed for name, listed in ids.items() if listed or name == "train"}


def write(files: Mapping[Path, str]) -> None:
    """Write the files, and say which."""
    for path, text in files.items():
        path.parent.mkdir(exist_ok=True)
        write_whole(path, text.encode())
        say(f"wrote {path}")
