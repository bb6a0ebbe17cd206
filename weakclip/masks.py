"""Masks: label maps of class indices as 8-bit palette PNGs (0 background, 255 ignore)."""

from __future__ import annotations

import io
import os
from pathlib import Path
from stat import S_ISREG
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from weakclip.disk_space import write_whole
from weakclip.errors import WeakClipError
from weakclip.images import LARGEST_PIXELS, open_image
from weakclip.plain_png import SIGNATURE, decode_plain_png, read_chunks

IGNORE: Final = 255
# PIL stretches grey of 2 and 4 bits to 0..255; an index has to be squeezed back.
GREY_STEPS: Final = {"L;2": 85, "L;4": 17}


def voc_palette() -> NDArray[np.uint8]:
    """(256, 3) RGB: bits 0, 1, 2 of the index are the top bits of R, G, B, bits 3, 4, 5 the next, and so on (VOC devkit)."""
    index = np.arange(256)
    palette = np.zeros((256, 3), dtype=np.uint8)
    for bit in range(8):
        palette[:, bit % 3] |= (((index >> bit) & 1) << (7 - bit // 3)).astype(np.uint8)
    return palette


PALETTE: Final = voc_palette()


def read_mask(path: Path | str) -> NDArray[np.uint8]:
    """(H, W) uint8 class indices of a palette or grey image, writable.

    Raises:
        WeakClipError: names the file that is missing, damaged or has colours instead of indices.
    """
    content = _content(path)
    plain = decode_plain_png(content, LARGEST_PIXELS)
    if plain is not None:
        return plain.copy()
    # PIL does not look at the checksums of the pixels, and fills up what is cut off.
    if content.startswith(SIGNATURE) and read_chunks(content) is None:
        problem = f"{path} is damaged: it is cut off, or does not match its checksums"
        raise WeakClipError(problem, "restore it: with `dvc checkout`, from its stage, or from where you have it")
    with open_image(path, "mask") as image:
        if image.mode not in ("P", "L", "1"):
            problem = f"{path} is not a mask: it has {image.mode} pixels instead of class indices"
            raise WeakClipError(problem, "save it as an 8-bit palette or grey PNG of class indices (255 = ignore)")
        raw_mode = image.tile[0].args if image.tile else None
        step = GREY_STEPS.get(raw_mode, 1) if isinstance(raw_mode, str) else 1
        return np.array(image, dtype=np.uint8) // step


def _content(path: Path | str) -> bytes:
    """The bytes of a file; none of what cannot be read or is no file: a pipe would be waited for, a device read without end."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(file)
            return os.read(file, status.st_size) if S_ISREG(status.st_mode) else b""
        finally:
            os.close(file)
    except OSError:
        return b""


def is_mask(path: Path | str) -> bool:
    """Whether a mask is there and sound: of what an interrupted run has finished, that is looked at again."""
    try:
        read_mask(path)
    except WeakClipError:
        return False
    return True


def mask_file(folder: Path | str, image_id: str) -> str:
    """Where an image's mask is; a text, as the paths of a `Record` are."""
    return f"{folder}/{image_id}.png"


def write_mask(path: Path | str, mask: NDArray[np.uint8]) -> None:
    """Write (H, W) uint8 indices as a palette PNG; the same mask gives the same bytes. The folder must exist.

    The file appears whole or not at all.
    """
    if mask.dtype != np.uint8 or mask.ndim != 2:
        raise ValueError(f"a mask is (H, W) uint8, got {mask.shape} {mask.dtype}")
    image = Image.fromarray(mask)
    image.putpalette(PALETTE.tobytes())
    file = io.BytesIO()
    image.save(file, format="PNG", compress_level=6)
    write_whole(path, file.getvalue())


def resize_mask(mask: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """The mask, (H, W) uint8, at (height, width): nearest neighbour, so that no index arises between two others."""
    if mask.shape == (height, width):
        return mask.copy()
    return np.array(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))


def winners(scores: NDArray[np.floating]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Which of n maps (n, H, W), n at most 256, is largest at each pixel, the first of equals, and how large: (H, W) each.

    One pass over each map; numpy's argmax goes through the maps pixel by pixel.
    """
    largest = scores[0].astype(np.float32)
    index = np.zeros(largest.shape, np.uint8)
    for number, values in enumerate(scores[1:], start=1):
        larger = values > largest
        np.copyto(index, np.uint8(number), where=larger)
        np.copyto(largest, values, where=larger)
    return index, largest
