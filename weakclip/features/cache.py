"""Runs the frozen image encoder over all views of all training images, once, and stores its tokens.

Photos are decoded and rendered ahead in threads and rows are written behind in another one, so that the encoder does not wait.
On a CPU some batches are encoded side by side.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from weakclip.datasets.index import Record
from weakclip.device import to_host
from weakclip.disk_space import told_apart
from weakclip.errors import WeakClipError
from weakclip.features.blocks import SECOND, block_widths
from weakclip.features.index import shard_name, write_index
from weakclip.features.plan import ShardPlan, ViewRecipe, plan_shards
from weakclip.features.shards import ShardLayout
from weakclip.features.size import CacheSize, cache_size, stored_bytes
from weakclip.features.token_formats import FLOAT16, TokenFormat
from weakclip.features.views import View, render_photo
from weakclip.features.writer import ShardWriter
from weakclip.image_figures import ImageFigures, ImageIds
from weakclip.images import read_photo
from weakclip.progress import Bar, size
from weakclip.ranks import node, share_of_node, world
from weakclip.side_by_side import map_ahead, side_by_side
from weakclip.write_behind import WriteBehind

LIBRARIES: Final = ("h5py", "pillow")  # the encoder names its own
Pixels = NDArray[np.uint8]


class Encoder(Protocol):
    """A frozen image encoder with a class token and square patches.

    attributes says in JSON values what it is. Called with images (B, 3, h, w) uint8 it returns tokens (B, 1 + h * w / patch²,
    width) float32 for each of its tapped blocks, the class token first. Tokens of a second encoder have the block `SECOND`.
    """

    @property
    def patch(self) -> int:
        """Side of a patch, pixels."""

    @property
    def blocks(self) -> tuple[int, ...]:
        """The tapped blocks, ascending."""

    @property
    def width(self) -> int:
        """Channels of a token."""

    @property
    def attributes(self) -> Mapping[str, object]:
        """What it is, in JSON values."""

    def __call__(self, images: Tensor, /) -> Sequence[Tensor]: ...


def cache_features(
    records: Sequence[Record],
    encoder: Encoder,
    recipe: ViewRecipe,
    folder: Path,
    *,
    shard_bytes: int,
    batch_size: int = 32,
    workers: int = 1,
    token_format: TokenFormat = FLOAT16,
) -> CacheSize:
    """Encode the views of the images, in their order, into shards and an index in folder; goes on with what is there.

    Every byte follows from the records, the photos, the encoder, the recipe, the format, shard_bytes and batch_size; workers is
    the number of threads that decode photos. Machines share the shards, the ranks of a machine the batches of a shard: two
    machines never write to one file, which not every network file system would stand. Raises WeakClipError if the disk is too
    small, a photo cannot be read, or a feature is not a number of the format.
    """
    if not records:
        raise WeakClipError("the dataset has no training images", "add photos with tags, then `dvc repro`")
    if recipe.image_size % encoder.patch or recipe.patch != encoder.patch:
        problem = f"clip.image_size is {recipe.image_size}: should be a multiple of the encoder's patch, {encoder.patch}"
        raise WeakClipError(problem, f"set it to {max(1, recipe.image_size // encoder.patch) * encoder.patch}")
    widths = block_widths(encoder.blocks, encoder.width, encoder.attributes)
    token_bytes, view_bytes = stored_bytes(token_format, widths)
    shards = plan_shards(records, recipe, token_bytes=token_bytes, shard_bytes=shard_bytes, view_bytes=view_bytes)
    per_image = recipe.view_count
    total = cache_size(records, recipe, token_format, widths)
    folder.mkdir(parents=True, exist_ok=True)
    if world().main:
        _check_room(folder, total, recipe, len(encoder.blocks))
    world().barrier()  # nothing takes room before the check
    attributes = _attributes(encoder, recipe, token_format)
    rows = [len(shard.records) * per_image for shard in shards]
    mine = share_of_node([(shard, folder / shard_name(number)) for number, shard in enumerate(shards)])
    views = sum(len(shard.records) * per_image for shard, _ in mine)
    done = sum(len(shard.records) * per_image for shard, path in mine if path.exists())
    with (
        side_by_side() as encoders,
        Bar(total=views // node().count, title="encode", unit="views", done=done // node().count) as bar,
    ):
        for shard, path in mine:
            _fill(
                replace(shard),  # its rows go when it is filled
                path,
                encoder,
                attributes,
                token_format,
                batch_size=batch_size,
                workers=workers,
                encoders=encoders,
                bar=None if path.exists() else bar,
            )
    world().barrier()
    if world().main:
        image_ids = ImageIds(record.image_id for record in records)
        write_index(folder, attributes, rows, ImageFigures(image_ids, np.arange(len(records)) * per_image))
    return total


def _attributes(encoder: Encoder, recipe: ViewRecipe, token_format: TokenFormat) -> dict[str, object]:
    return {
        **encoder.attributes,
        "patch": encoder.patch,
        "blocks": [block for block in encoder.blocks if block != SECOND],
        "width": encoder.width,
        "dtype": token_format.name,
        "image_size": recipe.image_size,
        "whole_views": recipe.whole_count,
        "crop_views": recipe.crops,
        "recipe": asdict(recipe),
        **{name: version(name) for name in LIBRARIES},
    }


def _check_room(folder: Path, total: CacheSize, recipe: ViewRecipe, blocks: int) -> None:
    """Refuse a cache that the disk cannot hold; what an interrupted run has taken of it counts as free."""
    free = shutil.disk_usage(folder).free + sum(path.stat().st_blocks * 512 for path in folder.iterdir())
    if total.n_bytes <= free:
        return
    needed, there = told_apart(total.n_bytes, free)
    hint = f"drop blocks from clip.blocks (each is {size(total.n_bytes // blocks)})"
    if recipe.crops:
        crop = recipe.tokens(View(height=recipe.image_size, width=recipe.image_size))
        share = crop / (total.tokens / total.images)
        hint += f", lower features.views (each is {size(round(total.n_bytes * share))}; 0 encodes while training)"
    raise WeakClipError(f"features need {needed}, {there} are free on the disk", f"{hint}, or free some space")


def _fill(
    shard: ShardPlan,
    path: Path,
    encoder: Encoder,
    attributes: Mapping[str, object],
    token_format: TokenFormat,
    *,
    batch_size: int,
    workers: int,
    encoders: int,
    bar: Bar | None,
) -> None:
    widths = block_widths(encoder.blocks, encoder.width, encoder.attributes)
    columns = tuple(column for block, width in widths.items() for column in token_format.columns(block, width))
    layout = ShardLayout(columns=columns, counts=shard.counts, about=shard.about, attributes=attributes)
    writer = ShardWriter(path, layout, ranks=node())
    missing = {*writer.missing}
    mine = node().share(tuple(shard.batches(batch_size)))
    batches = [batch for batch in mine if missing.intersection(batch)]
    if bar is not None:
        bar.advance(sum(len(batch) for batch in mine) - sum(len(missing.intersection(batch)) for batch in mine))

    def encode(rendered: tuple[tuple[int, ...], Pixels]) -> tuple[tuple[int, ...], dict[str, NDArray[Any]]]:
        batch, pixels = rendered
        return batch, _encode(encoder, token_format, pixels, [shard.rows[row][0].image_id for row in batch])

    rendered = _rendered_batches(shard, batches, ahead=batch_size, workers=workers)
    try:
        with WriteBehind() as behind:
            for batch, columns_of_batch in map_ahead(encode, rendered, threads=encoders, ahead=encoders):
                behind(_write, writer, batch, columns_of_batch, missing)
                if bar is not None:
                    bar.advance(len(missing.intersection(batch)))
        writer.finish()
    finally:
        writer.close()


def _write(writer: ShardWriter, batch: Sequence[int], columns: Mapping[str, NDArray[Any]], missing: set[int]) -> None:
    for place, row in enumerate(batch):
        if row in missing:
            writer.write(row, {name: array[place] for name, array in columns.items()})


def _encode(encoder: Encoder, token_format: TokenFormat, pixels: Pixels, image_ids: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Return what is stored of views (B, H, W, 3), (B, entries, C) by column."""
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
    columns: dict[str, NDArray[Any]] = {}
    widths = block_widths(encoder.blocks, encoder.width, encoder.attributes)
    with torch.inference_mode():
        for block, tokens in zip(encoder.blocks, encoder(images), strict=True):
            stored = token_format.encode(tokens)
            finite = torch.stack([torch.isfinite(part).flatten(1).all(dim=1) for part in stored]).all(dim=0).tolist()
            if not all(finite):
                image_id = image_ids[finite.index(False)]
                problem = f"features of {image_id} in block {block} are not numbers, or too large for {token_format.name}"
                raise WeakClipError(problem, f"check clip.weights, or leave block {block} out of clip.blocks")
            for column, part in zip(token_format.columns(block, widths[block]), stored, strict=True):
                columns[column.name] = to_host(part).numpy()
    return columns


def _rendered_batches(
    shard: ShardPlan, batches: Sequence[tuple[int, ...]], *, ahead: int, workers: int
) -> Iterator[tuple[tuple[int, ...], Pixels]]:
    """Yield the batches with their views (B, H, W, 3), decoding each photo once, in order, up to `ahead` photos early."""
    ready: dict[int, Pixels] = {}
    photos = _rendered_photos(shard, {row for batch in batches for row in batch}, ahead=ahead, workers=workers)
    for batch in batches:
        while any(row not in ready for row in batch):
            ready.update(next(photos))
        yield batch, np.stack([ready.pop(row) for row in batch])


def _rendered_photos(shard: ShardPlan, needed: set[int], *, ahead: int, workers: int) -> Iterator[dict[int, Pixels]]:
    """Yield, photo by photo, those of its views that are needed, by row."""
    jobs: dict[str, dict[int, View]] = {}
    for row in sorted(needed):
        jobs.setdefault(shard.rows[row][0].image_id, {})[row] = shard.rows[row][1]
    records = {record.image_id: record for record in shard.records}

    def render(job: tuple[str, dict[int, View]]) -> dict[int, Pixels]:
        image_id, views = job
        return _render(records[image_id], views)

    yield from map_ahead(render, jobs.items(), threads=workers, ahead=ahead)


def _render(record: Record, views: Mapping[int, View]) -> dict[int, Pixels]:
    photo = read_photo(record.photo, record.crc32)
    if photo.shape[:2] != (record.height, record.width):
        found, expected = f"{photo.shape[1]} x {photo.shape[0]}", f"{record.width} x {record.height}"
        problem = f"{record.photo} is {found} pixels, the dataset index says {expected}"
        raise WeakClipError(problem, "the photo was replaced: `dvc repro prepare_dataset`")
    return {row: render_photo(photo, view) for row, view in views.items()}
