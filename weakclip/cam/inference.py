"""From maps of views to the maps of an image: fused over scales and mirrors, spread by attention, between 0 and 1."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from weakclip.cam.affinity import affinity, spread, stretch
from weakclip.cam.stored import StoredTokens
from weakclip.clip.attention import LastBlocks
from weakclip.datasets.index import Record


@dataclass(frozen=True, kw_only=True)
class ViewMaps:
    """Scores of the present classes in one view: (c, h, w), not negative. ``flip``: mirrored."""

    maps: Tensor
    flip: bool


class Source(Protocol):
    """Scores of the classes ``tags`` (1-based) in a stored view, its row given: (c, h w), not negative, on any device."""

    def __call__(self, row: int, tags: Sequence[int], /) -> Tensor: ...


def fuse_views(views: Sequence[ViewMaps]) -> Tensor:
    """Mean of the views' maps (c, h, w) at the grid of the largest view, mirrored ones turned back."""
    largest = max((view.maps for view in views), key=lambda maps: maps.shape[1] * maps.shape[2])
    total = torch.zeros_like(largest)
    for view in views:
        maps = view.maps.flip(-1) if view.flip else view.maps
        total += functional.interpolate(maps[None], size=largest.shape[1:], mode="bilinear", align_corners=False)[0]
    return total / len(views)


def normalise(maps: Tensor) -> Tensor:
    """Each map (c, h, w) divided by its maximum; a map that is zero everywhere stays zero."""
    peak = maps.flatten(1).amax(dim=1).clamp_min(1e-6)
    return maps / peak[:, None, None]


@dataclass(frozen=True)
class AttentionSpread:
    """Spreads the maps of an image by the attention of CLIP's last ``count`` blocks, see `weakclip.cam.affinity`.

    Attention is averaged over the views of the largest grid, plain and mirrored. ``threshold``: of the boxes.
    """

    stored: StoredTokens
    blocks: LastBlocks
    count: int
    threshold: float

    def __call__(self, maps: Tensor, rows: Sequence[int]) -> Tensor:
        """Maps (c, h, w), 0..1, at the largest grid of the image's whole views ``rows``: (c, h, w), 0..1."""
        height, width = maps.shape[1:]
        places = torch.arange(height * width).view(height, width)
        attentions = []
        for row in rows:
            if self.stored.grid(row) == (height, width):
                attention = self.blocks.attention(self.stored.read(row)[None], self.count)[0]
                turned = places.flip(-1) if self.stored.flip(row) else places
                attentions.append(attention[turned.flatten()][:, turned.flatten()])
        return stretch(spread(maps, affinity(torch.stack(attentions).mean(dim=0)).to(maps), self.threshold))


@torch.no_grad()
def spread_of_photo(maps: Tensor, rows: Sequence[int], spread_by: AttentionSpread) -> Tensor:
    """Maps (c, H, W), 0..1, of a whole photo, however fine, spread at the largest grid of its whole views ``rows``:
    (c, h, w), 0..1, on the CPU."""
    height, width = max((spread_by.stored.grid(row) for row in rows), key=lambda grid: grid[0] * grid[1])
    resized = functional.interpolate(maps[None], size=(height, width), mode="bilinear", align_corners=False, antialias=True)
    return spread_by(normalise(resized[0].clamp_min(0)), rows).cpu()


@torch.no_grad()  # not inference_mode, whose tensors a gradient cannot be taken through, as GradCAM does
def image_maps(
    records: Sequence[Record], stored: StoredTokens, source: Source, spread_by: AttentionSpread | None
) -> Iterator[tuple[Record, Tensor]]:
    """Each image with the maps (c, h, w) of its tags, 0..1, at the grid of its largest view, on the CPU."""
    for record in records:
        rows = stored.store.whole_rows(record.image_id)
        views = [ViewMaps(maps=source(row, record.tags).unflatten(1, stored.grid(row)), flip=stored.flip(row)) for row in rows]
        maps = normalise(fuse_views(views))
        yield record, (spread_by(maps, rows) if spread_by and record.tags else maps).cpu()
