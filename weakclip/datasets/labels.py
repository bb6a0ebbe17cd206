"""The text files of a dataset that people write by hand: classes, tags, splits. A file is refused with all its problems."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from weakclip.datasets.image_ids import composed, ending, image_ids, repeated, stem
from weakclip.datasets.index import ClassList
from weakclip.errors import WeakClipError, one_line
from weakclip.images import PHOTO_ENDINGS

SHOWN: Final = 5
MOST_CLASSES: Final = 254  # foreground; 255 is the ignore index of masks
BYTE_ORDER_MARK: Final = "\ufeff"
BACKGROUND_HEADING: Final = "[background]"


@dataclass(frozen=True)
class Listed:
    """What a file says of the photos it lists: tags by image id, and problems (``line 3: ...``) by missing name."""

    entries: dict[str, tuple[int, ...]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


class PhotoNames:
    """Finds the photo that a name in a list means.

    A name may have its folder or not, its ending or not, the ending in either case, and either kind of slash and of Unicode
    normal form (macOS writes file names decomposed).
    """

    def __init__(self, photos: Iterable[str]) -> None:
        """``photos``: paths below the folder of the photos, of different ids. A shared name needs its folder."""
        self.with_ending: dict[str, str] = {}
        self.without_ending: dict[str, str] = {}
        paths = [composed(photo) for photo in photos]
        shared = repeated(map(stem, paths))
        for path, image_id in zip(paths, image_ids(paths), strict=True):
            names = {path}
            if stem(path) not in shared:
                names.add(path[path.rfind("/") + 1 :])
            for name in names:
                self.with_ending[lower_ending(name)] = image_id
                bare = name.removesuffix(ending(name))
                self.without_ending[image_id if bare == image_id else bare] = image_id  # of equal texts one is kept

    def find(self, name: str) -> str | None:
        """The image id; None where there is no such photo.

        Raises:
            ValueError: an absolute path, or one that leaves the folder; the message says so.
        """
        text = composed(name.strip()).replace("\\", "/")
        parts = [part for part in text.split("/") if part not in ("", ".")]
        if text.startswith("/") or re.match(r"[A-Za-z]:", text):
            raise ValueError(f"{name.strip()!r} is an absolute path; write it relative to the folder of the photos")
        if ".." in parts:
            raise ValueError(f"{name.strip()!r} leaves the folder of the photos")
        path = "/".join(parts)
        for candidate in (path, path.removeprefix("images/")):
            found = self.with_ending.get(lower_ending(candidate)) or self.without_ending.get(candidate)
            if found is not None:
                return found
        return None


def is_unicode(text: str) -> bool:
    """Whether a text can be written down: file names and JSON may hold what stands for no letter."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def lower_ending(name: str) -> str:
    """The name with the ending of a photo in lower case, other names as they are."""
    found = ending(name)
    return name.removesuffix(found) + found.lower() if found != found.lower() in PHOTO_ENDINGS else name


def without_ending(name: str) -> str:
    """The name without the ending of a photo, other names as they are."""
    return name.removesuffix(ending(name)) if ending(name).lower() in PHOTO_ENDINGS else name


def refuse(path: Path, problems: Sequence[str], hint: str) -> None:
    """Raise one `WeakClipError` with the first problems of a file and their number, if there are any."""
    if not problems:
        return
    count = f"{len(problems):,} problems: " if len(problems) > 1 else ""
    rest = f"; and {len(problems) - SHOWN:,} more" if len(problems) > SHOWN else ""
    raise WeakClipError(f"{path}: {count}{'; '.join(problems[:SHOWN])}{rest}", hint)


def read_text(path: Path) -> str:
    """A text file in UTF-8, with or without a byte order mark."""
    if path.exists() and not path.is_file():
        raise WeakClipError(f"{path} is no file", "put a text file there; the README says what it looks like")
    try:
        return path.read_bytes().decode("utf-8").removeprefix(BYTE_ORDER_MARK)
    except FileNotFoundError as error:
        raise WeakClipError(f"{path} is missing", "put it there; the README says what it looks like") from error
    except OSError as error:
        raise WeakClipError(f"{path} cannot be opened: {error.strerror}", "let this user read it, or replace it") from error
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise WeakClipError(f"{path}: line {line} is not UTF-8", "save the file as UTF-8 text") from error


def read_json(path: Path) -> Any:
    """What a JSON file holds; an object is a tuple of pairs, for a dict would silently keep only the last of two of one name.

    Raises:
        WeakClipError: names the file, and the line that is not JSON.
    """
    try:
        return json.loads(read_text(path), object_pairs_hook=tuple)
    except json.JSONDecodeError as error:
        raise WeakClipError(f"{path}: line {error.lineno} is not JSON: {error.msg}", "mend the file") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, lists in thousands of lists
        raise WeakClipError(f"{path} cannot be read as JSON: {error}", "mend the file") from error


def read_classes(path: Path) -> ClassList:
    """``classes.txt``: a class a line, ``name`` or ``name: synonym, synonym``; background words after ``[background]``.

    Blank lines and comments (``#``) do not count. No word may stand for two things.
    """
    names: list[str] = []
    synonyms: list[tuple[str, ...]] = []
    background: list[str] = []
    used = {"background": "the name of index 0"}
    problems: list[str] = []
    in_background = False

    def use(number: int, word: str, meaning: str) -> None:
        if composed(word).casefold() in used:
            problems.append(f"line {number}: {word!r} is already {used[composed(word).casefold()]}")
        used.setdefault(composed(word).casefold(), f"{meaning} (line {number})")

    for number, raw in enumerate(read_text(path).splitlines(), start=1):
        line = composed(re.sub(r"(^|\s)#.*", "", raw).strip())
        if not line:
            continue
        if line.startswith("["):
            if line.casefold() != BACKGROUND_HEADING:
                problems.append(f"line {number}: {line!r} is no heading; the only one is {BACKGROUND_HEADING}")
            in_background = True
            continue
        name, _, rest = (part.strip() for part in line.partition(":"))
        words = tuple(word.strip() for word in rest.split(",") if word.strip())
        if one_line(line) != line:
            problems.append(f"line {number}: {line!r} holds a control character")
        elif not name or "," in name or ";" in name:
            problems.append(f"line {number}: {line!r} is not a name or `name: synonym, synonym`")
        elif in_background and words:
            problems.append(f"line {number}: the background word {name!r} has synonyms; write each word on a line of its own")
        elif in_background:
            use(number, name, "a background word")
            background.append(name)
        else:
            use(number, name, "a class")
            for word in words:
                use(number, word, f"a synonym of {name}")
            names.append(name)
            synonyms.append(words)
    if not names and not problems:
        problems.append("it names no class")
    if len(names) > MOST_CLASSES:
        problems.append(f"{len(names)} classes are more than the {MOST_CLASSES} that an 8-bit mask holds")
    refuse(path, problems, "a class a line, `name` or `name: synonym, synonym`; background words after a line [background]")
    return ClassList(names=tuple(names), synonyms=tuple(synonyms), background_words=tuple(background))


def read_tags(path: Path, classes: ClassList, photos: PhotoNames, *, skip_missing: bool) -> Listed:
    """Tags by image id from ``tags.csv`` (columns image, tags; tags joined by ``;``) or ``tags.json`` ({image: [tags]}).

    Raises:
        WeakClipError: with file and lines: unknown tags, images listed twice or (unless ``skip_missing``) not there.
    """
    problems: list[str] = []
    rows = json_rows(path, problems) if path.suffix == ".json" else csv_rows(path, problems)
    index = {name: 1 + position for position, name in enumerate(classes.names)}
    known: dict[tuple[int, ...], tuple[int, ...]] = {}  # of equal tags of many images one tuple is kept

    def parse(where: str, tags: Sequence[str]) -> tuple[int, ...]:
        words = [composed(tag.strip()) for tag in tags if tag.strip()]
        problems.extend(f"{where}: {unknown_tag(word, classes)}" for word in words if word not in index)
        found = tuple(sorted({index[word] for word in words if word in index}))
        return known.setdefault(found, found)

    listed, found = list_photos(((where, name, parse(where, tags)) for where, name, tags in rows), photos.find)
    problems += found
    if not skip_missing:
        problems += listed.missing.values()
    refuse(path, sorted(problems, key=line_number), f"mend the file; tags are the {len(classes.names)} names of the class list")
    return listed


def read_split(path: Path, photos: PhotoNames, *, skip_missing: bool) -> Listed:
    """The image ids of a split file, an image a line; blank lines and comments (``#``) do not count. Errors as `read_tags`."""
    lines = enumerate(read_text(path).splitlines(), start=1)
    names = [(f"line {number}", line.strip()) for number, line in lines if line.strip() and not line.startswith("#")]
    listed, problems = list_photos(((where, name, ()) for where, name in names), photos.find)
    if not skip_missing:
        problems += listed.missing.values()
    refuse(path, sorted(problems, key=line_number), "mend the file: an image a line, with or without its ending")
    return listed


def list_photos(
    rows: Iterable[tuple[str, str, tuple[int, ...]]], find: Callable[[str], str | None]
) -> tuple[Listed, list[str]]:
    """Rows of (where, name, tags) by image id, and the problems with their names."""
    listed = Listed()
    problems: list[str] = []
    first: dict[str, str] = {}
    for where, name, tags in rows:
        try:
            image_id = find(name)
        except ValueError as error:
            problems.append(f"{where}: {error}")
            continue
        if image_id is None:
            listed.missing.setdefault(without_ending(name.strip()), f"{where}: there is no photo {name.strip()!r}")
        elif image_id in first:
            problems.append(f"{where}: {name.strip()!r} is listed a second time (first: {first[image_id]})")
        else:
            first[image_id] = where
            listed.entries[image_id] = tags
    return listed, problems


def csv_rows(path: Path, problems: list[str]) -> Iterator[tuple[str, str, list[str]]]:
    """Line, image and tags of each row of a ``tags.csv``; what is wrong with others is added to ``problems``. Raises
    WeakClipError where it is no such table."""
    reader = csv.reader(io.StringIO(read_text(path), newline=""), skipinitialspace=True, strict=True)
    try:
        header = [cell.strip().casefold() for cell in next(reader, [])]
        if header.count("image") != 1 or header.count("tags") != 1:
            raise WeakClipError(
                f"{path}: line 1 is {','.join(header)!r}, not the heading `image,tags`",
                "begin the file with the line `image,tags`; cells are parted by commas, tags inside a cell by semicolons",
            )
        for cells in reader:
            where = f"line {reader.line_num}"
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(header):
                problems.append(f"{where}: {len(cells)} cells where the heading has {len(header)}; join tags by semicolons")
                continue
            yield where, cells[header.index("image")], cells[header.index("tags")].split(";")
    except csv.Error as error:
        problems.append(f"line {reader.line_num}: {error}")


def json_rows(path: Path, problems: list[str]) -> Iterator[tuple[str, str, list[str]]]:
    """The same of a ``tags.json``, whose lines are its entries."""
    document = read_json(path)
    if not isinstance(document, tuple):
        raise WeakClipError(f"{path} is not an object", 'write {"image": ["tag", "tag"], ...}')
    for number, (name, tags) in enumerate(document, start=1):
        where = f"entry {number}"
        if not is_unicode(name):
            problems.append(f"{where}: the name {name!r} is not Unicode text")
        elif isinstance(tags, list) and all(isinstance(tag, str) for tag in tags):
            yield where, name, tags
        else:
            problems.append(f"{where}: the tags of {name!r} are not a list of strings")


def unknown_tag(word: str, classes: ClassList) -> str:
    """Why a word is no class, with what it may have been meant to be."""
    for name, synonyms in zip(classes.names, classes.synonyms, strict=True):
        if word in synonyms:
            return f"{word!r} is a synonym; the class is {name!r}"
    near = get_close_matches(word, classes.names, n=1) or get_close_matches(word.lower(), classes.names, n=1)
    return f"unknown tag {word!r}" + (f" (did you mean {near[0]!r}?)" if near else "")


def line_number(problem: str) -> int:
    """3 of ``line 3: ...`` or ``entry 3: ...``."""
    return int(problem.split(":")[0].split()[1])
