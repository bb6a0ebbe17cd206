"""What images are called after: their files, and as many folders as it takes to tell them apart."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import PurePath


def composed(text: str) -> str:
    """The text in Unicode's composed form: macOS writes file names decomposed."""
    return unicodedata.normalize("NFC", text)


def image_ids(photos: Iterable[PurePath]) -> list[str]:
    """The file name of each photo without its ending; where several share it, with folders before it, joined by ``_``.

    ``cat/1.jpg`` and ``dog/1.jpg`` become ``cat_1`` and ``dog_1``. Two files of one folder that differ by their ending only
    share an id.
    """
    parts = [(*photo.parent.parts, photo.stem) for photo in photos]
    used = [1] * len(parts)
    while True:
        ids = [composed("_".join(names[-count:])) for names, count in zip(parts, used, strict=True)]
        shared = Counter(ids)
        longer = [number for number, names in enumerate(parts) if shared[ids[number]] > 1 and used[number] < len(names)]
        if not longer:
            return ids
        for number in longer:
            used[number] += 1
