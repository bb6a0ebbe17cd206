"""The stored features of photos: for each view of an image, the tokens of the encoder's tapped blocks."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from weakclip.errors import WeakClipError
from weakclip.features.blocks import SECOND, block_widths
from weakclip.features.index import ShardFolder
from weakclip.features.token_formats import FORMATS, Floats
from weakclip.features.views import View

REMEDY: Final = "write the features anew: `dvc repro -f -s cache_features`"


class FeatureStore:
    """Features written by `weakclip.features.cache`, read from a folder such as data/features.

    A row is a view of an image. Its array (1 + h * w, C) for each block starts with the class token; the patch tokens follow
    row by row. ``blocks`` are CLIP's; where there was a second encoder, its tokens are those of one more, behind them in
    ``all_blocks``. An image's rows are its whole views, in the order of `whole_views`, then its crops.

    Shards are opened when they are needed and their rows checked when first read; a damaged one raises WeakClipError with its
    name. No handle is held, so a store may be used after a fork and by several threads; sent to another process, it opens anew.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._shards = ShardFolder(folder, REMEDY)
        self.blocks: tuple[int, ...] = tuple(self.attributes["blocks"])
        self.all_blocks = (*self.blocks, SECOND) if "second" in self.attributes else self.blocks
        self.patch: int = self.attributes["patch"]
        self.width: int = self.attributes["width"]
        dtype = str(self.attributes.get("dtype"))
        if dtype not in FORMATS:
            raise WeakClipError(f"{folder} holds tokens as {dtype}, this version reads {' and '.join(FORMATS)}", REMEDY)
        self._format = FORMATS[dtype]
        self._widths = block_widths(self.all_blocks, self.width, self.attributes)
        self._names = {
            block: [column.name for column in self._format.columns(block, width)] for block, width in self._widths.items()
        }

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
        return tuple(self._shards.index.images)

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

    def read(self, row: int, blocks: Sequence[int] | None = None) -> dict[int, Floats]:
        """Return a row's tokens (1 + h * w, C), float16 or float32, by block: CLIP's or those asked for.

        Where the file holds float16 they are windows on it, nothing is copied.
        """
        wanted = self.blocks if blocks is None else blocks
        return {block: self._format.decode(entries) for block, entries in self._entries(row, wanted)}

    def read_batch(
        self, rows: Sequence[int], out: Mapping[int, Floats] | None = None, blocks: Sequence[int] | None = None
    ) -> dict[int, Floats]:
        """Return the tokens (B, 1 + h * w, C) by block, CLIP's or those asked for, of rows with equally many tokens.

        They are float16 or float32, as `read` gives them. out may hold arrays to fill, float16 or float32, of at least B rows
        each; what is returned then are windows on them.
        """
        counts = {self.tokens(row) for row in rows}
        if len(counts) != 1:
            raise ValueError(f"expected rows with equally many tokens, got {sorted(counts)}")
        wanted = self.blocks if blocks is None else blocks
        count = counts.pop()
        if out is None:
            out = {block: np.empty((len(rows), count, self._widths[block]), dtype=self._format.decoded) for block in wanted}
        batch = {block: out[block][: len(rows)] for block in wanted}
        for block, array in batch.items():
            shape = (len(rows), count, self._widths[block])
            if array.shape != shape or array.dtype not in (np.float16, np.float32):
                got = f"{array.shape} {array.dtype}"
                raise ValueError(f"block {block}: expected an array {shape} float16 or float32 to fill, got {got}")
        for place, row in enumerate(rows):
            for block, entries in self._entries(row, wanted):
                self._format.decode_into(batch[block][place], entries)
        return batch

    def let_go(self, rows: Iterable[int]) -> None:
        """Give the memory back that these rows take in this process, for pages of a file that were read count as memory.

        What is read again is mapped again, which takes about as long as copying it.
        """
        for row in rows:
            self._shards.let_row_go(row)

    def _entries(self, row: int, blocks: Sequence[int]) -> Iterator[tuple[int, list[NDArray[Any]]]]:
        """Yield what the row has in the columns of each block."""
        columns = self._shards.read(row)
        for block in blocks:
            yield block, [columns[name] for name in self._names[block]]
