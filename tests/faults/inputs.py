"""Hostile and odd input: folders of photos as cameras, scrapers, spreadsheets and enemies make them, through a real stage.

`CASES` are names and functions. A function builds a data set in an empty folder, runs `stages.prepare_dataset` on it and
asserts what comes of it: a data set that holds what it should, or an error of two lines that names file and line, and no
artefact. They run in any order, in this process.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import shutil
import struct
import unicodedata
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from PIL import ExifTags, Image, PngImagePlugin
from ruamel.yaml import YAML

from stages import prepare_dataset
from weakclip.datasets.index import Dataset, read_dataset
from weakclip.errors import WeakClipError, one_line
from weakclip.masks import write_mask

PRESET: Final = Path(prepare_dataset.__file__).parents[1] / "weakclip" / "presets" / "folder.yaml"
OUT: Final = Path("data/dataset")
RAW: Final = Path("data/raw")
PHOTOS: Final = RAW / "images"
Case = Callable[[Path], None]


def build(
    folder: Path,
    *,
    tags: str | bytes | None = "image,tags\na,cat\nb,dog\nc,cat;dog\n",
    classes: str | bytes = "cat\ndog\n",
    photos: Sequence[str] = ("a.png", "b.png", "c.png"),
    splits: Mapping[str, str] | None = None,
) -> None:
    """Write a folder data set; photos are plain and of 20 x 16 pixels."""
    (folder / PHOTOS).mkdir(parents=True)
    for name in photos:
        photo(folder, name)
    for name, content in (("tags.csv", tags), ("classes.txt", classes)):
        if content is not None:
            (folder / RAW / name).write_bytes(content.encode() if isinstance(content, str) else content)
    for name, content in (splits or {}).items():
        (folder / RAW / "splits").mkdir(exist_ok=True)
        (folder / RAW / "splits" / f"{name}.txt").write_text(content)


def photo(folder: Path, name: str, image: Image.Image | None = None, **options: object) -> Path:
    path = folder / PHOTOS / name
    (image or Image.new("RGB", (20, 16), "teal")).save(path, **options)  # type: ignore[arg-type]
    return path


def mask(folder: Path, name: str, *indices: int, shape: tuple[int, int] = (16, 20)) -> None:
    (folder / RAW / "masks").mkdir(exist_ok=True)
    values = np.zeros(shape, np.uint8)
    values.ravel()[: len(indices)] = indices
    write_mask(folder / RAW / "masks" / name, values)


def run(folder: Path, on_error: str) -> None:
    params = YAML(typ="safe", pure=True).load(PRESET.read_text(encoding="utf-8"))
    params["dataset"]["on_error"] = on_error
    with (folder / "params.yaml").open("w", encoding="utf-8") as file:
        YAML().dump(params, file)
    with contextlib.chdir(folder), contextlib.redirect_stdout(None):
        prepare_dataset.main()


def handled(folder: Path, on_error: str = "stop") -> Dataset:
    """Run the stage and read what it wrote, which is all that it left."""
    run(folder, on_error)
    assert not list((folder / ".resume").glob("*/*"))
    return read_dataset(folder / OUT)


def refused(folder: Path, *words: str, on_error: str = "stop") -> None:
    """Run the stage, which says the words in its error and leaves no artefact."""
    try:
        run(folder, on_error)
    except WeakClipError as error:
        assert one_line(error.problem) == error.problem and one_line(error.hint) == error.hint and error.hint
        assert all(word in error.problem for word in words), error.problem
        assert not (folder / OUT).exists() and not (folder / "data/results").exists()
        return
    raise AssertionError(f"expected an error that says {words}")


def left_out(folder: Path, *reasons: str) -> Dataset:
    """Refused by name when the stage is to stop; when it is to skip, listed in the artefact, and the rest is used."""
    refused(folder, reasons[0])
    dataset = handled(folder, "skip")
    with (folder / OUT / "skipped.csv").open(encoding="utf-8", newline="") as file:
        listed = [row["reason"] for row in csv.DictReader(file)]
    assert len(listed) == len(reasons), listed
    for reason in reasons:
        assert any(reason in text for text in listed), listed
    return dataset


def sizes(dataset: Dataset) -> dict[str, tuple[int, int]]:
    return {record.image_id: (record.height, record.width) for record in dataset.records}


def kinds_of_pixels(folder: Path) -> None:
    build(folder, photos=(), tags="image,tags\n" + "".join(f"p{number},cat\n" for number in range(9)))
    plain = Image.new("RGB", (20, 16), "teal")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    photo(folder, "p0.jpg", exif=exif)
    for number, mode in enumerate(("L", "P", "CMYK", "RGBA", "LA", "1"), start=1):
        photo(folder, f"p{number}.{'jpg' if mode == 'CMYK' else 'png'}", plain.convert(mode))
    photo(folder, "p7.png", Image.fromarray(np.full((16, 20), 40_000, np.uint16)))
    photo(folder, "p8.gif", plain, save_all=True, append_images=[Image.new("RGB", (20, 16), "red")])
    assert sizes(handled(folder)) == {"p0": (20, 16)} | {f"p{number}": (16, 20) for number in range(1, 9)}


def smallest_and_largest_photo(folder: Path) -> None:
    build(folder, photos=(), tags="image,tags\na,cat\nb,dog\nc,cat\n")
    photo(folder, "a.png", Image.new("L", (8, 8)))
    photo(folder, "b.png", Image.new("L", (10_000, 10_000)), compress_level=1)
    photo(folder, "c.png", Image.new("L", (8, 4000)))
    assert sizes(handled(folder)) == {"a": (8, 8), "b": (10_000, 10_000), "c": (4000, 8)}


def photos_too_small_or_too_large(folder: Path) -> None:
    build(folder, tags="image,tags\na,cat\nb,cat\nc,cat\nd,cat\n", photos=("a.png",))
    photo(folder, "b.png", Image.new("L", (7, 300)))
    (folder / PHOTOS / "c.png").write_bytes(png(30_000, 30_000))
    (folder / PHOTOS / "d.png").write_bytes(png(2**31 - 1, 2**31 - 1))
    dataset = left_out(folder, "b.png is 7 x 300 pixels", "c.png is larger than 100 megapixels", "d.png is larger than")
    assert list(sizes(dataset)) == ["a"]


def png(width: int, height: int) -> bytes:
    """A PNG whose header claims a size that its few bytes do not hold."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def bomb_in_a_comment(folder: Path) -> None:
    build(folder)
    comments = PngImagePlugin.PngInfo()
    comments.add_text("Comment", "x" * 80_000_000, zip=True)
    photo(folder, "c.png", pnginfo=comments)
    assert (folder / PHOTOS / "c.png").stat().st_size < 200_000
    assert list(sizes(left_out(folder, "c.png is damaged"))) == ["a", "b"]


def damaged_photos(folder: Path) -> None:
    build(folder, photos=("a.png",), tags="image,tags\na,cat\nb,cat\nc,cat\nd,cat\ne,cat\n")
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    whole = photo(folder, "b.jpg", Image.fromarray(noise)).read_bytes()
    (folder / PHOTOS / "b.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / PHOTOS / "c.jpg").touch()
    (folder / PHOTOS / "d.jpg").write_text("<html>404</html>")
    (folder / PHOTOS / "e.jpg").write_text("%!PS-Adobe-3.0 EPSF-3.0\n(touch marker) system\n")
    reasons = ("b.jpg is damaged", "c.jpg is empty (0 bytes)", "d.jpg is not an image", "e.jpg is not an image")
    assert list(sizes(left_out(folder, *reasons))) == ["a"]


def two_photos_of_one_name(folder: Path) -> None:
    build(folder, photos=("a.png", "a.jpg", "b.png", "c.png"))
    for on_error in ("stop", "skip"):
        refused(folder, "images/a.jpg and", "images/a.png would both be the image 'a'", on_error=on_error)


def names_in_other_alphabets(folder: Path) -> None:
    names = ["Käse", "猫", "🐈", "ﷺ", "a b", "Ⅷ"]
    build(folder, photos=[f"{unicodedata.normalize('NFD', name)}.png" for name in names], tags=None)
    content = json.dumps({f"{name}.png": ["cat"] for name in names}, ensure_ascii=False)
    (folder / RAW / "tags.json").write_text(content, encoding="utf-8")
    assert sorted(sizes(handled(folder))) == sorted(names)


def names_that_mean_something_elsewhere(folder: Path) -> None:
    names = [
        "=1+1",
        "+1",
        "-1",
        "@SUM(A1)",
        "<b>x<",
        "%s{}",
        "a,b",
        "it's",
        'say "a"',
        "$(id)",
        "CON",
        "..x",
        "x..",
        "[red]",
        "'",
    ]
    build(folder, photos=[f"{name}.png" for name in names if not name.startswith(".")], tags=None)
    names = [name for name in names if not name.startswith(".")]
    with (folder / RAW / "tags.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("image", "tags"), *((f"{name}.png", "cat") for name in names)])
    dataset = handled(folder)
    assert sorted(sizes(dataset)) == sorted(names)
    assert all((folder / record.photo).name == f"{record.image_id}.png" for record in dataset.records)


def names_that_cannot_be_listed(folder: Path) -> None:
    build(folder)
    long = "x" * 240
    for name in (b"line\nend.png", b"k\xe4se.png", f"{long}.png".encode(), "sep\u2028arator.png".encode(), b"bell\x07.png"):
        (folder / PHOTOS / os.fsdecode(name)).write_bytes((folder / PHOTOS / "a.png").read_bytes())
    reasons = ("line\\nend.png: the file name holds a line end", "k\\xe4se.png: the file name is not UTF-8")
    more = (f"{long}.png: the file name has more than 200 bytes", "sep\\u2028arator.png: the", "bell\\x07.png: the")
    refused(folder, "5 images cannot be used")
    dataset = left_out(folder, "bell\\x07.png", *reasons, *more[:2])
    assert list(sizes(dataset)) == ["a", "b", "c"]


def links_and_pipes(folder: Path) -> None:
    build(folder, tags="image,tags\na,cat\nb,dog\nc,dog\npipe,cat\nself,cat\nlost,cat\n")
    (folder / PHOTOS / "deep.jpg").mkdir()
    (folder / PHOTOS / "deep.jpg" / "loop").symlink_to(folder / PHOTOS, target_is_directory=True)
    os.mkfifo(folder / PHOTOS / "pipe.jpg")
    (folder / PHOTOS / "self.jpg").symlink_to("self.jpg")
    (folder / PHOTOS / "lost.jpg").symlink_to("nowhere.jpg")
    reasons = ("lost.jpg is missing", "pipe.jpg is no file", "self.jpg is damaged")
    assert list(sizes(left_out(folder, *reasons))) == ["a", "b", "c"]


def pipes_and_folders_for_text(folder: Path) -> None:
    build(folder)
    (folder / RAW / "tags.csv").unlink()
    os.mkfifo(folder / RAW / "tags.csv")
    refused(folder, "tags.csv is no file", on_error="skip")
    (folder / RAW / "classes.txt").unlink()
    (folder / RAW / "classes.txt").mkdir()
    refused(folder, "classes.txt is no file", on_error="skip")
    (folder / RAW / "classes.txt").rmdir()
    (folder / RAW / "classes.txt").symlink_to("classes.txt")
    refused(folder, "classes.txt cannot be opened", on_error="skip")


def masks_that_do_not_fit(folder: Path) -> None:
    build(folder, tags="image,tags\na,cat\nb,cat\nc,cat\nd,cat\ne,cat\n", photos=[f"{name}.png" for name in "abcde"])
    mask(folder, "a.png", 1, 2, 255)
    mask(folder, "b.png", 1, shape=(15, 20))
    mask(folder, "c.png", 3)
    Image.new("RGB", (20, 16)).save(folder / RAW / "masks" / "d.png")
    (folder / RAW / "masks" / "e.png").write_bytes(png(30_000, 30_000))
    reasons = (
        "b.png is 20 x 15 pixels",
        "c.png holds the index 3",
        "d.png is not a mask",
        "e.png is larger than 100 megapixels",
    )
    assert list(sizes(left_out(folder, *reasons))) == ["a"]


def masks_that_are_no_files(folder: Path) -> None:
    build(folder)
    (folder / RAW / "masks").mkdir()
    os.mkfifo(folder / RAW / "masks" / "a.png")
    (folder / RAW / "masks" / "b.png").symlink_to("/dev/zero")
    (folder / RAW / "masks" / "c.png").symlink_to("c.png")
    refused(folder, "a.png is no file", "b.png is no file", "c.png is damaged")


def folders_that_are_none(folder: Path) -> None:
    build(folder, splits={"train": "a\nb\n"})
    (folder / RAW / "splits" / "val.txt").symlink_to("/nowhere/val.txt")
    refused(folder, "splits/val.txt is missing", on_error="skip")
    shutil.rmtree(folder / RAW / "splits")
    for name in ("masks", "splits"):
        (folder / RAW / name).symlink_to("/nowhere")
        refused(folder, f"{name} is no folder, or leads to none", on_error="skip")
        (folder / RAW / name).unlink()


def names_that_are_long_with_their_folders(folder: Path) -> None:
    """Two of a name, told apart by folders: one of them cannot be, so the other needs none."""
    long, name = "x" * 150, "s" * 100
    build(folder, photos=("a.png",), tags=f"image,tags\na,cat\ny/{name},dog\n")
    for parent in (long, "y"):
        (folder / PHOTOS / parent).mkdir()
        photo(folder, f"{parent}/{name}.png")
    reason = f"{long}/{name}.png: with the folders that tell it apart its name has more than 200 bytes"
    assert list(sizes(left_out(folder, reason))) == ["a", name]


def tags_as_spreadsheets_write_them(folder: Path) -> None:
    build(folder, tags='\ufeffImage, Tags ,note\r\n"a.png","cat;dog","x, ""y""\r\nz"\r\n\r\nb.PNG,dog,\r\nc, cat ;,\r\n')
    assert [record.tags for record in handled(folder).records] == [(1, 2), (2,), (1,)]


def tags_that_are_wrong(folder: Path) -> None:
    build(folder, tags="image,tags\na,cat\na.png,dog\nb,bird\n/etc/passwd,cat\n../../x,cat\nC:\\x,cat\nc,cat,dog\n")
    words = ("tags.csv: 6 problems: line 3: 'a.png' is listed a second time (first: line 2)", "line 4: unknown tag 'bird'")
    refused(folder, *words, "line 5: '/etc/passwd' is an absolute path", "line 6: '../../x' leaves", on_error="skip")


def tags_of_other_kinds(folder: Path) -> None:
    build(folder)
    for content, words in (
        ("image,tags\na,cat\n".encode("utf-16"), "line 1 is not UTF-8"),
        (b"image,tags\na,c\0at\n", "line 2"),
        (b"image,tags\na," + b"x" * 200_000 + b"\n", "line 2"),
        (b'image,tags\na,"cat\n', "line 2"),
        (b"image;tags\na;cat\n", "line 1 is 'image;tags'"),
        (b"", "line 1 is ''"),
    ):
        (folder / RAW / "tags.csv").write_bytes(content)
        refused(folder, "tags.csv: ", words, on_error="skip")


def json_of_enemies(folder: Path) -> None:
    build(folder, tags=None)
    for content, words in (
        ("[" * 100_000, "cannot be read as JSON"),
        ('{"a": ' + "1" * 5000 + "}", "cannot be read as JSON"),
        ('{"a": ["cat"], "\\ud800": ["cat"]}', "entry 2: the name '\\ud800' is not Unicode"),
        ('{"a": ["cat"], "a": ["dog"]}', "entry 2: 'a' is listed a second time"),
        ('{"a": ["cat"], "../b": ["dog"]}', "entry 2: '../b' leaves"),
        ('{"a": [NaN]}', "entry 1: the tags of 'a' are not a list of strings"),
        ('{"a":\n["cat"', "line 2 is not JSON"),
    ):
        (folder / RAW / "tags.json").write_text(content)
        refused(folder, "tags.json", words, on_error="skip")


def images_without_tags(folder: Path) -> None:
    build(folder, tags="image,tags\na,cat\nb,\n", splits={"train": "a\nb\nc\n"})
    assert list(sizes(left_out(folder, "b.png: it has no tag", "c.png: it has no tag"))) == ["a"]


def splits_that_are_wrong(folder: Path) -> None:
    build(folder, splits={"train": "a\n/b\n../c\na.png\n", "val": "c\n"})
    words = ("train.txt: 3 problems", "line 2: '/b' is an absolute path", "line 3: '../c' leaves", "line 4: 'a.png' is listed")
    refused(folder, *words, on_error="skip")
    (folder / RAW / "splits" / "train.txt").write_text("a\nc\n")
    refused(folder, "c is in both", on_error="skip")
    (folder / RAW / "splits" / "train.txt").write_text("")
    refused(folder, "no image with tags is left to train on", on_error="skip")
    (folder / RAW / "splits" / "train.txt").unlink()
    refused(folder, "train.txt is missing", on_error="skip")


def an_empty_validation_split(folder: Path) -> None:
    build(folder, splits={"train": "\ufeffa\r\n\r\n# chosen\r\nb\r\n", "val": "\n"})
    assert [record.split for record in handled(folder).records] == ["train", "train"]


def photos_listed_but_not_there(folder: Path) -> None:
    build(folder, tags="image,tags\na,cat\nb,cat\nc,cat\nx.jpg,cat\n", splits={"train": "a\nb\ny\n"})
    assert list(sizes(left_out(folder, "tags.csv: line 5: there is no photo 'x.jpg'", "train.txt: line 3"))) == ["a", "b"]


def one_image_of_one_class(folder: Path) -> None:
    build(folder, photos=("a.png",), classes="cat\n", tags="image,tags\na,cat\n")
    dataset = handled(folder)
    assert [(record.split, record.tags) for record in dataset.records] == [("train", (1,))]


def an_image_with_every_class_of_254(folder: Path) -> None:
    names = [f"class {number}" for number in range(254)]
    build(folder, classes="\n".join(names), tags=f"image,tags\na,{';'.join(names)}\nb,class 0\nc,class 253\n")
    mask(folder, "a.png", *range(1, 255))
    assert handled(folder).records[0].tags == tuple(range(1, 255))


def five_hundred_classes(folder: Path) -> None:
    build(folder, classes="\n".join(f"class {number}" for number in range(500)))
    refused(folder, "classes.txt: 500 classes are more than the 254", on_error="skip")


def class_names_with_markup(folder: Path) -> None:
    names = [
        "<script>alert(1)</script>",
        "a/b",
        "../c",
        "=1+1",
        '"quoted"',
        "100 %",
        "{x}",
        "in [red]",
        "a & b",
        "‮right to left",
    ]
    build(folder, classes="\n".join(names), tags=None)
    (folder / RAW / "tags.json").write_text(json.dumps({"a": names, "b": names[:1], "c": names[1:2]}))
    dataset = handled(folder)
    assert dataset.classes.names == tuple(names)
    assert dataset.records[0].tags == tuple(range(1, 1 + len(names)))


def class_lists_that_are_wrong(folder: Path) -> None:
    build(folder)
    for content, words in (
        (b"", "it names no class"),
        (b"cat\nCAT\n", "line 2: 'CAT' is already a class (line 1)"),
        (b"cat\nd\xf6g\n", "line 2 is not UTF-8"),
        (b"cat;dog\n", "line 1: 'cat;dog' is not a name"),
        (b"cat\n\0\n", "line 2"),
    ):
        (folder / RAW / "classes.txt").write_bytes(content)
        refused(folder, "classes.txt", words, on_error="skip")


CASES: Final[Sequence[tuple[str, Case]]] = tuple(
    (case.__name__.replace("_", " "), case)
    for case in (
        kinds_of_pixels,
        smallest_and_largest_photo,
        photos_too_small_or_too_large,
        bomb_in_a_comment,
        damaged_photos,
        two_photos_of_one_name,
        names_in_other_alphabets,
        names_that_mean_something_elsewhere,
        names_that_cannot_be_listed,
        links_and_pipes,
        pipes_and_folders_for_text,
        masks_that_do_not_fit,
        masks_that_are_no_files,
        folders_that_are_none,
        names_that_are_long_with_their_folders,
        tags_as_spreadsheets_write_them,
        tags_that_are_wrong,
        tags_of_other_kinds,
        json_of_enemies,
        images_without_tags,
        splits_that_are_wrong,
        an_empty_validation_split,
        photos_listed_but_not_there,
        one_image_of_one_class,
        an_image_with_every_class_of_254,
        five_hundred_classes,
        class_names_with_markup,
        class_lists_that_are_wrong,
    )
)
