"""The feature store against plain memory maps of the same bytes: writing to the disk, reading into a batch."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.command import run, scratch
from benchmarks.pairs import Pair, alternate, timed
from benchmarks.rows import Row, compared
from weakclip.features.index import shard_name, write_index
from weakclip.features.shards import ShardLayout
from weakclip.features.store import FeatureStore
from weakclip.features.token_formats import FLOAT16
from weakclip.features.views import View
from weakclip.features.writer import ShardWriter
from weakclip.image_figures import ImageFigures, ImageIds
from weakclip.seeding import rng
from weakclip.supervision import CachedViews

BLOCKS: Final = (3, 5, 7, 11)
WIDTH: Final = 768
TOKENS: Final = 1 + 32 * 32
BATCH: Final = 2
PASSES: Final = 2  # over all rows, in a round of reading

Rows = NDArray[np.float16]


def measure(quick: bool, rounds: int | None) -> list[Row]:
    """Writing and reading the store against a plain memory-map copy."""
    rows = random_rows(8 if quick else 96)
    with scratch() as folder:
        return [measure_writing(rows, folder, rounds or 5), *measure_reading(rows, folder, rounds or 9)]


def random_rows(count: int) -> Rows:
    """Tokens of views: (count, blocks, tokens, width)."""
    shape = (count, len(BLOCKS), TOKENS, WIDTH)
    return rng("benchmark rows").standard_normal(shape, dtype=np.float32).astype(np.float16)


def measure_writing(rows: Rows, folder: Path, rounds: int) -> Row:
    """Both end when every byte has been forced to the disk."""

    def write() -> None:
        shutil.rmtree(folder / "features", ignore_errors=True)
        write_store(rows, folder / "features")

    def copy() -> None:
        (folder / "plain").unlink(missing_ok=True)
        plain = np.memmap(folder / "plain", dtype=rows.dtype, mode="w+", shape=rows.shape)
        plain[...] = rows
        plain.flush()

    seconds = alternate({"store": timed(write), "plain": timed(copy)}, rounds)
    what = f"{rows.nbytes / 1e6:.0f} MB with checksums and journal, a memory-map copy; both forced to the disk"
    return compared("store_write", Pair(seconds["store"], seconds["plain"]), what)


def write_store(rows: Rows, folder: Path) -> None:
    """A store of one shard."""
    folder.mkdir()
    attributes: dict[str, object] = {
        "blocks": list(BLOCKS),
        "patch": 16,
        "width": WIDTH,
        "dtype": FLOAT16.name,
        "whole_views": 1,
        "crop_views": 0,
    }
    columns = tuple(column for block in BLOCKS for column in FLOAT16.columns(block, WIDTH))
    layout = ShardLayout(
        columns=columns,
        counts=(TOKENS,) * len(rows),
        about=("{}",) * len(rows),
        attributes=attributes,
    )
    writer = ShardWriter(folder / shard_name(0), layout)
    for number, row in enumerate(rows):
        writer.write(number, {column.name: tokens for column, tokens in zip(columns, row, strict=True)})
    writer.finish()
    image_ids = ImageIds(f"{number:05d}" for number in range(len(rows)))
    write_index(folder, attributes, [len(rows)], ImageFigures(image_ids, np.arange(len(rows))))


def measure_reading(rows: Rows, folder: Path, rounds: int) -> list[Row]:
    """Batches of random rows, from files that are in the system's cache; checksums were compared before, or are in this."""
    plain = np.memmap(folder / "plain", dtype=rows.dtype, mode="r", shape=rows.shape)
    store = FeatureStore(folder / "features")
    draw = rng("benchmark reading")
    batches = [
        order[start : start + BATCH].tolist()
        for order in (draw.permutation(len(rows)) for _ in range(PASSES))
        for start in range(0, len(order) - BATCH + 1, BATCH)
    ]
    shape = (BATCH, TOKENS, WIDTH)

    def training_batch(batch: Sequence[int]) -> list[torch.Tensor]:
        return [tokens.float() for tokens in training.tokens([], [(view, row) for row in batch])]

    kept = {block: np.empty(shape, np.float16) for block in BLOCKS}
    training = CachedViews(store)
    view = View(height=512, width=512)

    def plain_batch(batch: Sequence[int]) -> dict[int, Rows]:
        for column, tokens in enumerate(kept.values()):
            for place, row in enumerate(batch):
                tokens[place] = plain[row, column]
        return kept

    def each(read: Callable[[list[int]], object]) -> None:
        for batch in batches:
            read(batch)

    ways = {
        "store": timed(lambda: each(lambda batch: store.read_batch(batch, kept))),
        "plain": timed(lambda: each(plain_batch)),
        "training": timed(lambda: each(training_batch)),
        "plain_training": timed(lambda: each(lambda batch: as_training(plain_batch(batch)))),
    }
    seconds = alternate(ways, rounds)

    def first_touch() -> None:
        fresh = FeatureStore(folder / "features")
        for start in range(0, len(rows) - BATCH + 1, BATCH):
            fresh.read_batch(range(start, start + BATCH), kept)

    def plain_touch() -> None:
        for start in range(0, len(rows) - BATCH + 1, BATCH):
            plain_batch(range(start, start + BATCH))

    first = alternate({"store": timed(first_touch), "plain": timed(plain_touch)}, rounds)
    batch = f"batches of {BATCH} rows of {rows[0].nbytes / 1e6:.1f} MB in random order"
    return [
        compared(
            "store_read",
            Pair(seconds["store"], seconds["plain"]),
            f"{batch}, checked before, into a float16 batch that is reused; a memory-map copy into the same",
            bar=0.8,
        ),
        compared(
            "store_read_training",
            Pair(seconds["training"], seconds["plain_training"]),
            f"{batch}, checked before, as the float32 tensors of a training step; a memory-map copy, then numpy's conversion",
        ),
        compared(
            "store_read_first_touch",
            Pair(first["store"], first["plain"]),
            "all rows once by a new reader, which compares their checksums; a memory-map copy",
        ),
    ]


def as_training(batch: dict[int, Rows]) -> list[torch.Tensor]:
    """What a training step takes, made in the plainest way."""
    return [torch.from_numpy(tokens.astype(np.float32)) for tokens in batch.values()]


if __name__ == "__main__":
    run(measure)
