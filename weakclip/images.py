"""Photos as arrays, whatever a camera or a scraper made of them.

A photo is a (H, W, 3) uint8 RGB array, upright. What cannot be read is refused by file name, and what PIL merely warns of
(odd EXIF, large pictures) stays silent: either the pixels are there or the file is refused.
Colour profiles are not applied; of animations the first frame counts.
"""

from __future__ import annotations

import errno
import io
import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, ImageOps, UnidentifiedImageError

from weakclip.disk_space import write_whole
from weakclip.errors import WeakClipError, of_the_machine
from weakclip.file_names import file_size, is_no_file, read_bytes

SMALLEST_SIDE: Final = 8
LARGEST_PIXELS: Final = 100_000_000
# HEIC is here so that such photos are refused by name instead of being overlooked.
PHOTO_ENDINGS: Final = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".jp2", ".ppm", ".pgm", ".avif",
    ".heic", ".heif",
))  # fmt: skip
# Formats that PIL decodes by itself; it would hand others, such as PostScript, to programs of the system.
FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "JPEG2000", "PPM", "AVIF")
REPLACE_HINT: Final = "replace the file with one that opens in an image viewer, or remove it"
RESAVE_HINT: Final = "save it as an 8-bit RGB JPEG or PNG"
Resize = Callable[[NDArray[np.uint8], int, int], NDArray[np.uint8]]
"""Photo (H, W, 3), height and width -> the photo at that size."""


def read_photo(path: Path | str, crc32: int | None = None) -> NDArray[np.uint8]:
    """The photo as (H, W, 3) uint8 RGB, writable.

    EXIF orientation is applied; grey, palette, CMYK and 16-bit pictures are converted, transparent ones laid on white.
    ``crc32``: what `file_crc32` gave for it when the data set was made; formats such as JPEG show no damage by themselves.

    Raises:
        WeakClipError: names the file that is missing, damaged, another one than was listed, no image, under 8 px a side or
            above 100 megapixels.
    """
    if crc32 is not None and file_crc32(path) != crc32:
        problem = f"{path} is damaged, or another photo than the dataset index lists: its checksum does not match"
        raise WeakClipError(problem, "restore it, or take it as it is: `dvc repro prepare_dataset`")
    with open_image(path) as image:
        check_sides(path, image)
        # Loading first makes a truncated file fail here, before anything is derived from half a picture.
        image.load()
        return np.array(to_rgb(path, upright(image)))


def read_photo_size(path: Path | str) -> tuple[int, int]:
    """(height, width) of the upright photo, from the header (a PNG is decoded: its EXIF may stand behind the pixels).

    Raises:
        WeakClipError: as `read_photo`, but for damage that only decoding shows.
    """
    with open_image(path) as image:
        check_sides(path, image)
        width, height = image.size
        # PIL turns a TIFF by itself when it decodes it, and says so in its size beforehand.
        turned = orientation(image) >= 5 and image.format != "TIFF"
        return (width, height) if turned else (height, width)


def file_crc32(path: Path | str) -> int:
    """The CRC-32 of a file's bytes.

    Raises:
        WeakClipError: names the file that is missing.
    """
    if is_no_file(path):
        raise WeakClipError(f"{path} is no file", REPLACE_HINT)  # a pipe would be waited for
    try:
        return isal_zlib.crc32(read_bytes(path))
    except OSError as error:
        if of_the_machine(error):
            raise
        raise WeakClipError(f"{path} is missing", "put the photo there, or take it off the lists") from error


def resize_photo(photo: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """The photo, (H, W, 3) uint8, at (height, width, 3): bilinear, antialiased where it shrinks."""
    if photo.shape[:2] == (height, width):
        return photo.copy()
    return np.array(Image.fromarray(photo).resize((width, height), Image.Resampling.BILINEAR))


def write_image(path: Path, image: Image.Image, **options: Any) -> None:
    """Write an image with the options of its format, ``format`` among them; the file appears whole or not at all."""
    file = io.BytesIO()
    image.save(file, **options)
    write_whole(path, file.getvalue())


@contextmanager
def open_image(path: Path | str, what: str = "photo") -> Iterator[ImageFile.ImageFile]:
    """The opened, not yet decoded file; whatever is wrong with it, found inside the block, becomes a `WeakClipError`.

    What is wrong with the machine does not: no memory or no file handles left now says nothing of the file.
    """
    try:
        if is_no_file(path):
            raise WeakClipError(f"{path} is no file", REPLACE_HINT)  # a pipe would be waited for
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as image:
                if image.width * image.height > LARGEST_PIXELS:
                    raise too_large(path, f"{image.width} x {image.height} pixels")
                yield image
    except WeakClipError:
        raise
    except FileNotFoundError as error:
        raise WeakClipError(f"{path} is missing", f"put the {what} there, or take it off the lists") from error
    except UnidentifiedImageError as error:
        reason = "is empty (0 bytes)" if file_size(path) == 0 else "is not an image in a format that can be read"
        raise WeakClipError(f"{path} {reason}", REPLACE_HINT) from error
    except Image.DecompressionBombError as error:
        raise too_large(path, "its header says") from error
    except MemoryError as error:
        raise OSError(errno.ENOMEM, "not enough memory to decode it", str(path)) from error
    except OSError as error:
        if of_the_machine(error):
            raise
        raise damaged(path, error) from error
    # Damaged files make PIL's readers raise nearly anything: OSError, SyntaxError, ValueError, struct.error, TypeError...
    except Exception as error:
        raise damaged(path, error) from error


def damaged(path: Path | str, error: Exception) -> WeakClipError:
    """The error for a file that cannot be decoded."""
    return WeakClipError(f"{path} is damaged: {str(error) or type(error).__name__}", REPLACE_HINT)


def too_large(path: Path | str, found: str) -> WeakClipError:
    """The error for a photo with more pixels than are read; ``found``: its size in words."""
    limit = LARGEST_PIXELS // 1_000_000
    return WeakClipError(f"{path} is larger than {limit} megapixels ({found})", f"make it smaller than {limit} megapixels")


def check_sides(path: Path | str, image: Image.Image) -> None:
    """Raise WeakClipError where a side is too short for a network."""
    if min(image.size) < SMALLEST_SIDE:
        width, height = image.size
        problem = f"{path} is {width} x {height} pixels; a photo needs at least {SMALLEST_SIDE} a side"
        raise WeakClipError(problem, "remove it, or replace it with a larger copy")


def orientation(image: Image.Image) -> int:
    """EXIF orientation, 1..8; 1 where there is none, or the EXIF block is damaged (viewers show the pixels as stored)."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except (SyntaxError, struct.error, ValueError, TypeError, KeyError, IndexError):
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF orientation says."""
    return ImageOps.exif_transpose(image) if orientation(image) > 1 else image


def to_rgb(path: Path | str, image: Image.Image) -> Image.Image:
    """The image as RGB of 8 bits: 16 bits scaled, transparency on white. Raises WeakClipError for floating-point pixels."""
    if image.mode == "I" or image.mode.startswith("I;16"):
        return Image.fromarray(eight_bits(path, np.asarray(image))).convert("RGB")
    if image.mode == "F":
        raise WeakClipError(f"{path} has floating-point pixels", RESAVE_HINT)
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    # Converting RGB to RGB would copy it, and photos are large.
    return image if image.mode == "RGB" else image.convert("RGB")


def eight_bits(path: Path | str, values: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Values 0..65535, of any shape, as 0..255, rounded: 257 steps of the one are a step of the other."""
    if values.min() < 0 or values.max() > 65535:
        raise WeakClipError(f"{path} has 32-bit pixels", RESAVE_HINT)
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
