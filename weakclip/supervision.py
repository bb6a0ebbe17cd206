"""Batches for training WeakCLIP: tokens of a view of each image, and the same view of its photo and its seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from weakclip.clip.image_encoder import ImageEncoder
from weakclip.datasets.index import Record
from weakclip.device import pinned
from weakclip.features.store import FeatureStore
from weakclip.features.views import View, crop_views, part_of_view, render_map, render_photo
from weakclip.images import read_photo
from weakclip.masks import IGNORE, read_mask
from weakclip.sampling import batch_indices
from weakclip.second_encoder import EncoderPair
from weakclip.seeding import rng


@dataclass(frozen=True, kw_only=True)
class Batch:
    """``tokens``: per tapped block (B, 1 + h w, C) float32, or float16 while it waits. ``height``, ``width``: the grid.
    ``photos``: (B, S, S, 3) uint8.
    ``seeds``: (B, S, S) int64, 255 unsure or outside the photo. ``tags``: 1-based classes of each image.
    ``images``: (B, 3, H, W) RGB, 0..255, in place of tokens, for a network that has an encoder of its own."""

    tokens: list[Tensor]
    height: int
    width: int
    photos: NDArray[np.uint8]
    seeds: Tensor
    tags: list[tuple[int, ...]]
    names: list[str]
    images: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """The batch with its tensors on a device, tokens in float32, which take twice the room and the way."""
        tokens = [block.to(device, non_blocking=True).float() for block in self.tokens]
        images = None if self.images is None else self.images.to(device, non_blocking=True)
        return replace(self, tokens=tokens, images=images, seeds=self.seeds.to(device, non_blocking=True))

    def micro_batches(self, count: int) -> list[Batch]:
        """The batch in so many parts of one size, whose images take turns: as many processes that share the batch evenly have,
        together and in their order, the same images in each part. Raises ValueError where that is not possible."""
        if len(self.seeds) % count:
            raise ValueError(f"expected a number that divides the {len(self.seeds)} images of the batch, got {count}")
        return [
            replace(
                self,
                tokens=[block[first::count] for block in self.tokens],
                photos=self.photos[first::count],
                seeds=self.seeds[first::count],
                tags=self.tags[first::count],
                names=self.names[first::count],
                images=None if self.images is None else self.images[first::count],
            )
            for first in range(count)
        ]


@dataclass(frozen=True)
class CachedViews:
    """Views whose tokens are in the feature store: its random crops."""

    store: FeatureStore

    def choose(self, record: Record, draw: np.random.Generator) -> tuple[View, int]:
        """One of the image's cached crops, and its row."""
        row = int(draw.choice(self.store.crop_rows(record.image_id)))
        return self.store.view(row), row

    def tokens(self, photos: Sequence[NDArray[np.uint8]], chosen: Sequence[tuple[View, int]]) -> list[Tensor]:
        """Tokens (B, 1 + h w, C) of each block, float16 or float32 as the store has them; the photos are not looked at."""
        rows = [row for _, row in chosen]
        blocks = self.store.read_batch(rows, blocks=self.store.all_blocks)
        self.store.let_go(rows)  # it is long until they are drawn again
        return [torch.from_numpy(tokens) for _, tokens in sorted(blocks.items())]


@dataclass(frozen=True, kw_only=True)
class OnlineViews:
    """Views drawn anew at every step and encoded on the spot: ``features.views: 0``."""

    encoder: ImageEncoder | EncoderPair
    scale: tuple[float, float]
    colour: float
    image_size: int

    def choose(self, record: Record, draw: np.random.Generator) -> tuple[View, int]:
        """A view drawn anew; it has no row."""
        seed = int(draw.integers(2**31))
        (view,) = crop_views(
            record.image_id,
            record.height,
            record.width,
            count=1,
            seed=seed,
            scale=self.scale,
            colour=self.colour,
            image_size=self.image_size,
        )
        return view, 0

    def tokens(self, photos: Sequence[NDArray[np.uint8]], chosen: Sequence[tuple[View, int]]) -> list[Tensor]:
        """Tokens (B, 1 + h w, C) float32 of each block, encoded from the photos (H, W, 3) uint8."""
        rendered = [render_photo(photo, view) for photo, (view, _) in zip(photos, chosen, strict=True)]
        with torch.no_grad():
            blocks: list[Tensor] = self.encoder(torch.from_numpy(np.stack(rendered)).permute(0, 3, 1, 2))
        return blocks


def batch_maker(
    records: Sequence[Record],
    views: CachedViews | OnlineViews,
    seed_folder: Path,
    *,
    batch_size: int,
    seed: int,
    size: int,
    patch: int,
    crop: float = 1.0,
    part: slice = slice(None),
) -> Callable[[int], Batch]:
    """The function from a step to its batch. ``seed_folder`` holds ``<image_id>.png``.

    ``part``: which images of a batch are made, of ``batch_size`` in all; all are drawn, so the part does not change them.
    ``crop``: side of a random window on the token grid, as a share of the grid's; its tokens still know what was around it.
    ``size``: side of photos and seeds for a whole grid; a window has its share of it.
    """

    def make(step: int) -> Batch:
        draw = rng(seed, "weakclip views", step)
        indices = batch_indices(step, count=len(records), batch_size=batch_size, seed=seed, purpose="weakclip")
        drawn = [(records[index], views.choose(records[index], draw)) for index in indices]
        chosen_records, chosen = [record for record, _ in drawn[part]], [view for _, view in drawn[part]]
        photos = [read_photo(record.photo, record.crc32) for record in chosen_records]
        grid = chosen[0][0].height // patch
        side = max(1, round(crop * grid))
        corners = draw.integers(0, grid - side + 1, (batch_size, 2))[part]
        tokens = crop_tokens(views.tokens(photos, chosen), grid, side, corners)
        windows = [
            part_of_view(view, top=row * patch, left=column * patch, height=side * patch, width=side * patch)
            for (view, _), (row, column) in zip(chosen, corners.tolist(), strict=True)
        ]
        pixels = round(size * side / grid)
        seeds = [
            render_map(read_mask(seed_folder / f"{record.image_id}.png"), window, pixels, pixels, fill=IGNORE)
            for record, window in zip(chosen_records, windows, strict=True)
        ]
        return Batch(
            tokens=[pinned(block) for block in tokens],
            height=side,
            width=side,
            photos=np.stack([shrink(photo, window, pixels) for photo, window in zip(photos, windows, strict=True)]),
            seeds=pinned(torch.from_numpy(np.stack(seeds).astype(np.int64))),
            tags=[record.tags for record in chosen_records],
            names=[record.image_id for record in chosen_records],
        )

    return make


def crop_tokens(blocks: Sequence[Tensor], grid: int, side: int, corners: NDArray[np.int64]) -> list[Tensor]:
    """Class token and a window of ``side`` x ``side`` of each image's (1 + grid grid, C): (B, 1 + side side, C).

    ``corners``: (B, 2), first row and column of the window in tokens.
    """
    if side == grid:
        return list(blocks)
    rows, columns = (torch.from_numpy(corners[:, axis, None] + np.arange(side)) for axis in (0, 1))
    places = 1 + (rows[:, :, None] * grid + columns[:, None, :]).flatten(1)  # (B, side side)
    places = torch.cat([places.new_zeros(len(places), 1), places], dim=1).to(blocks[0].device)
    return [block.gather(1, places[:, :, None].expand(-1, -1, block.shape[2])) for block in blocks]


def shrink(photo: NDArray[np.uint8], view: View, size: int) -> NDArray[np.uint8]:
    """The view's window of the photo as (size, size, 3), mirrored like it, in the photo's own colours."""
    window = View(height=size, width=size, left=view.left, top=view.top, right=view.right, bottom=view.bottom, flip=view.flip)
    return render_photo(photo, window)
