"""What a folder of photos has to offer before anyone has described it: photos, their tags, their splits.

Tags come from a table or a JSON beside the photos, or from the names of the folders that the photos lie in.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from weakclip.datasets.folder import NO_PHOTOS, find_photos, is_photo, photo_folder, walk
from weakclip.datasets.image_ids import composed, ending
from weakclip.datasets.labels import PhotoNames, is_unicode, read_json, read_text
from weakclip.errors import WeakClipError, one_line
from weakclip.images import PHOTO_ENDINGS, read_photo_size
from weakclip.progress import track

IMAGE_COLUMNS: Final = frozenset(
    ("image", "images", "image_id", "file", "filename", "file_name", "photo", "path", "name", "id")
)
TAG_COLUMNS: Final = frozenset(("tags", "tag", "labels", "label", "classes", "class", "class_name", "category", "categories"))
SPLIT_FOLDERS: Final = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"
}  # fmt: skip
NO_CLASS: Final = frozenset(("background", "none", "unlabeled", "unlabelled"))
SHOWN: Final = 3
Rows = list[tuple[str, list[str]]]
"""Names of photos and their tags, as written."""


@dataclass(frozen=True, kw_only=True)
class Discovery:
    """What was found in ``root``.

    ``photos``: by image id. ``source``: the file or folder that the tags come from. ``tags``: class names by image id, of the
    photos that have any. ``splits``: train or val by image id, where the folders say so; empty otherwise. ``notes``: what
    could not be used, a line each.
    """

    root: Path
    folder: Path
    photos: Mapping[str, Path]
    source: Path
    tags: Mapping[str, tuple[str, ...]]
    splits: Mapping[str, str]
    notes: tuple[str, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """All names, in alphabetical order."""
        return tuple(sorted({name for names in self.tags.values() for name in names}))

    def name_of(self, image_id: str) -> str:
        """The photo as lists name it: its path below the folder of the photos."""
        return self.photos[image_id].relative_to(self.folder).as_posix()


def discover(root: Path, tags_file: Path | None = None) -> Discovery:
    """Look at a folder of photos; ``tags_file``: the file of the tags; a folder, if its subfolders are the tags.

    Raises:
        WeakClipError: there are no photos, no tags, several files of tags, or no such ``tags_file``.
    """
    if not any(map(is_photo, walk(root, NO_PHOTOS))):
        raise WeakClipError(f"{root} holds no photos", f"files that count as photos end in {', '.join(sorted(PHOTO_ENDINGS))}")
    folder = photo_folder(root)
    if tags_file is not None and not tags_file.is_file() and tags_file.resolve() not in (root.resolve(), folder.resolve()):
        problem = f"{tags_file} is another folder than {root}" if tags_file.is_dir() else f"{tags_file} is not there"
        raise WeakClipError(problem, f"give a CSV or JSON of tags; or `--tags {root}`, whose subfolders are the classes")
    found_photos, skipped = find_photos(folder)
    photos = {image_id: Path(path) for image_id, path in found_photos.items()}
    notes = [item.reason for item in skipped] + other_files(root) + unreadable(photos.values())
    relative = {image_id: PurePosixPath(path.relative_to(folder).as_posix()) for image_id, path in photos.items()}
    splits, below = split_folders(relative)
    if left := len(relative) - len(below):
        notes.append(f"photos under test/, which have no use beside val/: {left:,}")
    source = tags_file or only_table(root) or folder
    if source.is_file():
        written, found = look_up(source, read_rows(source), PhotoNames(map(str, relative.values())))
        notes += found
    else:
        written = {image_id: [path.parts[0]] for image_id, path in below.items() if len(path.parts) > 1}
        notes += [] if splits else folders_in_one(folder, below.values())
    tags, renamed = class_names(written)
    notes += renamed
    if not tags:
        raise WeakClipError(
            f"{root} says nothing of what the {len(photos):,} photos show",
            "put them into folders named by class, or write tags.csv: `image,tags`, then a line a photo: `x.jpg,cat;dog`",
        )
    if bare := [image_id for image_id in photos if image_id not in tags]:
        notes.append(f"photos without a class, which are left out: {len(bare):,} ({examples(bare)})")
    if everywhere := sorted(set.intersection(*map(set, tags.values()))):
        notes.append(f"all photos show {examples(everywhere)}: a class is learnt from photos without it as well, so add some")
    return Discovery(root=root, folder=folder, photos=photos, source=source, tags=tags, splits=splits, notes=tuple(notes))


def examples(names: Sequence[str]) -> str:
    """The first few names, for a message."""
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def other_files(root: Path) -> list[str]:
    """Notes of files that are neither photos nor lists, by ending."""
    lists = {".csv", ".json", ".txt"}
    endings = [ending(path).lower() or "no ending" for path in walk(root, ("masks", "splits"))]
    odd = sorted(one_line(found) for found in endings if found not in PHOTO_ENDINGS and found not in lists)
    return [f"files that are no photos ({', '.join(sorted(set(odd)))}): {len(odd):,}"] if odd else []


def folders_in_one(folder: Path, photos: Collection[PurePosixPath]) -> list[str]:
    """A note where all photos lie in one folder that has folders in turn: these may be the classes that were meant."""
    inner = {path.parts[:2] for path in photos if len(path.parts) > 2}
    outer = {path.parts[0] for path in photos}
    if len(outer) > 1 or len(inner) < 2:
        return []
    names = examples(sorted(name for _, name in inner))
    return [f"all photos lie in {min(outer)}; if the classes are {names}: `weakclip init {folder / min(outer)}`"]


def unreadable(photos: Collection[Path]) -> list[str]:
    """Notes of photos whose header cannot be read; `prepare_dataset` decodes them whole and lists what it leaves out."""
    problems = []
    for path in track(photos, total=len(photos), title="looking at photos"):
        try:
            read_photo_size(path)
        except WeakClipError as error:
            problems.append(error.problem)
    return problems[:SHOWN] + ([f"and {len(problems) - SHOWN:,} more such photos"] if len(problems) > SHOWN else [])


def only_table(root: Path) -> Path | None:
    """The one table or JSON beside the photos; None where there is none.

    Raises:
        WeakClipError: there are several.
    """
    found = sorted(path for path in root.iterdir() if path.suffix.lower() in (".csv", ".json") and path.is_file())
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise WeakClipError(
            f"{root} has several files that may hold tags: {names}", "say which: `weakclip init DIR --tags FILE`"
        )
    return found[0] if found else None


def read_rows(path: Path) -> Rows:
    """Names and tags from a table with a column for either, or from JSON: {image: tags} or a list of objects.

    Columns are parted by a comma, ``;`` or a tab, tags of a cell by ``;``, ``|`` or a comma. A photo may have several rows.

    Raises:
        WeakClipError: the file is damaged, or does not look so.
    """
    if path.suffix.lower() == ".json":
        return json_rows(path)
    text = read_text(path)
    delimiter = next((sign for sign in ",;\t" if sign in text.partition("\n")[0]), ",")  # spreadsheets write all of them
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    rows: Rows = []
    try:
        image, tags = named_columns(path, reader.fieldnames or ())
        for row in reader:
            if None in row:  # what is beyond the heading
                raise csv.Error("it has more cells than the heading")
            if any(row.values()):
                rows.append((row[image] or "", split_tags(row[tags] or "")))
    except csv.Error as error:
        hint = "mend the file; part several tags of a cell by semicolons"
        raise WeakClipError(f"{path}: line {reader.reader.line_num}: {error}", hint) from error
    return rows


def json_rows(path: Path) -> Rows:
    """Names of photos and their tags from ``{photo: tags}`` or a list of objects. Raises WeakClipError where it is neither."""
    document = read_json(path)
    if isinstance(document, tuple):
        pairs = list(document)
    elif isinstance(document, list) and document and all(isinstance(row, tuple) for row in document):
        table = [dict(row) for row in document]
        image, tags = named_columns(path, list(table[0]))
        pairs = [(row.get(image), row.get(tags)) for row in table]
    else:
        raise WeakClipError(f"{path} does not tell tags", 'write {"x.jpg": ["cat", "dog"], ...}')
    rows = [
        (str(name), split_tags(tags) if isinstance(tags, str) else [str(tag) for tag in tags])
        for name, tags in pairs
        if isinstance(tags, str | list)
    ]
    for name, words in rows:
        if odd := [text for text in (name, *words) if not is_unicode(text)]:
            raise WeakClipError(f"{path}: {odd[0]!r} is not Unicode text", "mend the file")
    return rows


def named_columns(path: Path, columns: Sequence[str]) -> tuple[str, str]:
    """Which column names the photo, and which its tags."""
    found = []
    for known in (IMAGE_COLUMNS, TAG_COLUMNS):
        fitting = [column for column in columns if column.strip().casefold() in known]
        if len(fitting) != 1:
            raise WeakClipError(
                f"{path}: of {', '.join(columns) or 'no columns'} it is not plain which names the photo and which its tags",
                "call one `image` and the other `tags`; take a file that is no list of tags out of the folder",
            )
        found += fitting
    return found[0], found[1]


def split_tags(cell: str) -> list[str]:
    """The tags of a cell, as written: parted by ``;``, ``|`` or a comma."""
    return re.split(r"[;|,]", cell)


def look_up(path: Path, rows: Rows, names: PhotoNames) -> tuple[dict[str, list[str]], list[str]]:
    """Tags by image id, and notes of rows whose photo is not there."""
    written: dict[str, list[str]] = {}
    missing = []
    for name, tags in rows:
        try:
            image_id = names.find(name)
        except ValueError:
            image_id = names.find(re.split(r"[/\\]", name.strip())[-1])  # an absolute path of another machine
        if image_id is None:
            missing.append(name)
        else:
            written.setdefault(image_id, []).extend(tags)
    notes = [f"rows of {path.name} whose photo is not there: {len(missing):,} ({examples(missing)})"] if missing else []
    return written, notes


def split_folders(photos: Mapping[str, PurePosixPath]) -> tuple[dict[str, str], dict[str, PurePosixPath]]:
    """Splits by image id where the outermost folders are train, val, test; and the photos' paths below these.

    test stands in for val where there is no val; otherwise its photos are in no split and left out.
    """
    tops = {path.parts[0].casefold() for path in photos.values()}
    if not tops <= SPLIT_FOLDERS.keys() or "train" not in {SPLIT_FOLDERS[top] for top in tops}:
        return {}, dict(photos)
    splits = {image_id: SPLIT_FOLDERS[path.parts[0].casefold()] for image_id, path in photos.items()}
    if "val" in splits.values():
        splits = {image_id: split for image_id, split in splits.items() if split != "test"}
    else:
        splits = {image_id: "train" if split == "train" else "val" for image_id, split in splits.items()}
    return splits, {image_id: photos[image_id].relative_to(photos[image_id].parts[0]) for image_id in splits}


def class_names(written: Mapping[str, Sequence[str]]) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """Tags as names that a class list may hold, and notes of those that were changed.

    Underscores and signs that lists give a meaning to become spaces, and names that differ in case only are one class.
    """
    spelled: dict[str, str] = {}
    changed: dict[str, str] = {}
    tags: dict[str, tuple[str, ...]] = {}
    for image_id, words in written.items():
        names = set()
        for word in words:
            name = " ".join(re.sub(r"[_,;:#\[\]]", " ", composed(word)).split())
            if not name or name.casefold() in NO_CLASS:
                continue
            name = spelled.setdefault(name.casefold(), name)
            if name != word.strip():
                changed[word.strip()] = name
            names.add(name)
        if names:
            tags[image_id] = tuple(sorted(names))
    return tags, [f"the class {before!r} is called {after!r}" for before, after in sorted(changed.items())]
