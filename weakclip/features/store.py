"""The stored features of photos: for each view of an image, the tokens of the encoder's tapped blocks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from weakclip.features.index import ShardFolder
from weakclip.features.views import View

REMEDY: Final = "write the features anew: `dvc repro -f -s cache_features`"
Tokens = NDArray[np.float16]


def column_name(block: int) -> str:
    """Return the name of the dataset that holds a block's tokens."""
    return f"block_{block}"


class FeatureStore:
    """Features written by `weakclip.features.cache`, read from a folder such as data/features.

    A row is a view of an image. Its array (1 + h * w, C) for each block starts with the class token; the patch tokens follow
    row by row. An image's rows are its whole views, in the order of `whole_views`, then its crops.

    Shards are opened when they are needed and their rows checked when first read; a damaged one raises WeakClipError with its
    name. No handle is held, so a store may be used after a fork and by several threads; sent to another process, it opens anew.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._shards = ShardFolder(folder, REMEDY)
        self.blocks: tuple[int, ...] = tuple(self.attributes["blocks"])
        self.patch: int = self.attributes["patch"]
        self.width: int = self.attributes["width"]
        self._names = {column_name(block): block for block in self.blocks}

    def __reduce__(self) -> tuple[type["FeatureStore"], tuple[Path]]:
        return FeatureStore, (self._folder,)

    def __len__(self) -> int:
        return len(self._shards)

    @property
    def attributes(self) -> dict[str, Any]:
        """What the features are: model, weights_hash, normalisation, blocks, patch, width, views, library versions."""
        return self._shards.attributes

    @property
    def image_ids(self) -> tuple[str, ...]:
        """The images that have features, sorted."""
        return tuple(self._shards.images)

    def whole_rows(self, image_id: str) -> range:
        """Return the rows of an image's whole views: for each scale the photo, then its mirror image if they are kept."""
        first = self._shards.first_row(image_id)
        return range(first, first + self.attributes["whole_views"])

    def crop_rows(self, image_id: str) -> range:
        """Return the rows of an image's random crops."""
        first = self.whole_rows(image_id).stop
        return range(first, first + self.attributes["crop_views"])

    def views(self, image_id: str) -> tuple[View, ...]:
        """Return an image's views, whole ones first, in the order of its rows."""
        return tuple(self.view(row) for row in range(self.whole_rows(image_id).start, self.crop_rows(image_id).stop))

    def view(self, row: int) -> View:
        """Return the view that a row holds the features of."""
        return View.from_dict(self._shards.about(row)["view"])

    def tokens(self, row: int) -> int:
        """Return the number of tokens of a row, 1 + h * w."""
        return self._shards.count(row)

    def read(self, row: int) -> dict[int, Tokens]:
        """Return a row's tokens (1 + h * w, C) by block: read-only windows on the file, nothing is copied."""
        return {self._names[name]: array for name, array in self._shards.read(row).items()}

    def read_batch(self, rows: Sequence[int], out: Mapping[int, Tokens] | None = None) -> dict[int, Tokens]:
        """Return the tokens (B, 1 + h * w, C) by block of rows with equally many tokens.

        out may hold arrays to fill, of at least B rows each; what is returned then are windows on them.
        """
        counts = {self.tokens(row) for row in rows}
        if len(counts) != 1:
            raise ValueError(f"expected rows with equally many tokens, got {sorted(counts)}")
        shape = (len(rows), counts.pop(), self.width)
        if out is None:
            out = {block: np.empty(shape, dtype=np.float16) for block in self.blocks}
        batch = {block: out[block][: len(rows)] for block in self.blocks}
        for block, array in batch.items():
            if array.shape != shape or array.dtype != np.float16:
                raise ValueError(f"block {block}: expected an array {shape} float16 to fill, got {array.shape} {array.dtype}")
        for place, row in enumerate(rows):
            for block, tokens in self.read(row).items():
                batch[block][place] = tokens
        return batch
