"""Label Studio's pre-annotations: ``tasks.json`` to import, and ``labels.xml``, the labelling interface that they fit.

https://labelstud.io/guide/predictions and https://labelstud.io/tags/brushlabels. Masks are in the editor's own run lengths:
@thi.ng/rle-pack (https://docs.thi.ng/umbrella/rle-pack) over the RGBA values of a picture.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from weakclip.datasets.index import ClassList
from weakclip.export.masked_photos import MaskedPhoto
from weakclip.masks import IGNORE, PALETTE

FROM_NAME: Final = "labels"
TO_NAME: Final = "image"
LOCAL_FILES: Final = "/data/local-files/?d="  # where Label Studio serves files of its machine
WORD_BITS: Final = 8
COUNT_BITS: Final = (3, 4, 8, 16)  # of the four classes of run lengths
LONGEST_RUN: Final = 2 ** COUNT_BITS[-1]


def write_label_studio(photos: Iterable[MaskedPhoto], classes: ClassList, root: Path, folder: Path) -> dict[str, int]:
    """Write both files into the folder, which must be there; returns how many tasks and brush regions there are.

    Photos are named as files that Label Studio serves from its machine, relative to ``root``, which is to be its
    LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT. A photo has a region for each class; pixels that are 255 are in none.
    """
    tasks = brushes = 0
    with (folder / "tasks.json").open("w", encoding="utf-8", newline="\n") as file:
        file.write("[\n")
        for photo in photos:
            result = [brush(photo, index, classes) for index in np.unique(photo.mask).tolist() if index not in (0, IGNORE)]
            image = LOCAL_FILES + quote(Path(photo.record.photo).relative_to(root).as_posix())
            task = {"data": {TO_NAME: image}, "predictions": [{"model_version": "weakclip", "result": result}]}
            file.write(("" if tasks == 0 else ",\n") + json.dumps(task, ensure_ascii=False))
            tasks, brushes = tasks + 1, brushes + len(result)
        file.write("\n]\n")
    (folder / "labels.xml").write_text(interface(classes), encoding="utf-8", newline="\n")
    return {"tasks": tasks, "brushes": brushes}


def brush(photo: MaskedPhoto, index: int, classes: ClassList) -> dict[str, object]:
    """The region of one class in one photo."""
    height, width = photo.mask.shape
    return {
        "id": f"{photo.record.image_id}-{index}",
        "type": "brushlabels",
        "from_name": FROM_NAME,
        "to_name": TO_NAME,
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {"format": "rle", "rle": packed(photo.mask == index), "brushlabels": [classes.names[index - 1]]},
    }


def packed(pixels: NDArray[np.bool_]) -> list[int]:
    """Run lengths of a picture (H, W), 255 in all of red, green, blue and alpha where true, as bytes.

    Bits: 32 for the number of words, 5 for the bits of a word less one, four times 4 for the bits of a run length less one;
    then for each run a 1, 2 bits for which of the four its length takes, the length less one, and the word. A 0 would begin
    words that do not repeat; there are none, since each pixel is four equal words.
    """
    flat = pixels.ravel()
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    lengths = 4 * np.diff(np.append(starts, flat.size))
    bits = [f"{4 * flat.size:032b}{WORD_BITS - 1:05b}", *(f"{count - 1:04b}" for count in COUNT_BITS)]
    for length, value in zip(lengths.tolist(), flat[starts].tolist(), strict=True):
        word = "1" * WORD_BITS if value else "0" * WORD_BITS
        whole, rest = divmod(length, LONGEST_RUN)
        bits += [run_bits(LONGEST_RUN) + word] * whole
        if rest:
            bits.append(run_bits(rest) + word)
    text = "".join(bits)
    return np.packbits(np.frombuffer(text.encode("ascii"), np.uint8) - ord("0")).tolist()


def run_bits(length: int) -> str:
    """Flag, class and length of a run of 1..65536 words."""
    kind = next(kind for kind, count in enumerate(COUNT_BITS) if length <= 2**count)
    return f"1{kind:02b}{length - 1:0{COUNT_BITS[kind]}b}"


def interface(classes: ClassList) -> str:
    """The labelling interface: a brush for each class, in the colours of the masks."""
    rows = [
        "<View>",
        f'  <Image name="{TO_NAME}" value="${TO_NAME}"/>',
        f'  <BrushLabels name="{FROM_NAME}" toName="{TO_NAME}">',
    ]
    for index, name in enumerate(classes.names, start=1):
        red, green, blue = PALETTE[index].tolist()
        rows.append(f'    <Label value={quoteattr(name)} background="#{red:02x}{green:02x}{blue:02x}"/>')
    return "\n".join([*rows, "  </BrushLabels>", "</View>"]) + "\n"
