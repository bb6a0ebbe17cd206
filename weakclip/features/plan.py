"""Which views are encoded, and how they are shared out to shards and batches.

All of it follows from the images in their order and from parameters, so that a run which goes on with another one's work, or
takes a share of it, agrees on every boundary.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Final

from weakclip.datasets.index import Record
from weakclip.features.views import View, crop_views, whole_views

WINDOW: Final = 128  # images whose views may share a batch: bounds how many rendered views wait for others of their size


@dataclass(frozen=True, kw_only=True)
class ViewRecipe:
    """Which views an image has: the whole photo at scales, with its mirror image if flip, and a number of random crops.

    crop_scale and colour are as in `crop_views`; image_size is in pixels.
    """

    scales: tuple[float, ...]
    flip: bool
    crops: int
    crop_scale: tuple[float, float]
    colour: float
    image_size: int
    patch: int
    seed: int

    @property
    def whole_count(self) -> int:
        """The number of whole views of an image."""
        return len(self.scales) * (2 if self.flip else 1)

    @property
    def view_count(self) -> int:
        """The number of views of an image."""
        return self.whole_count + self.crops

    def views(self, record: Record) -> tuple[View, ...]:
        """Return an image's views, whole ones first."""
        return self._whole_views(record) + crop_views(
            record.image_id,
            record.height,
            record.width,
            count=self.crops,
            seed=self.seed,
            scale=self.crop_scale,
            colour=self.colour,
            image_size=self.image_size,
        )

    def tokens(self, view: View) -> int:
        """Return the number of tokens of a view, class token included."""
        return 1 + (view.height // self.patch) * (view.width // self.patch)

    def image_tokens(self, record: Record) -> int:
        """Return the number of tokens of all views of an image, without drawing its crops."""
        whole = sum(self.tokens(view) for view in self._whole_views(record))
        return whole + self.crops * self.tokens(View(height=self.image_size, width=self.image_size))

    def _whole_views(self, record: Record) -> tuple[View, ...]:
        return whole_views(
            record.height, record.width, scales=self.scales, flip=self.flip, image_size=self.image_size, patch=self.patch
        )


@dataclass(frozen=True, kw_only=True)
class ShardPlan:
    """The images of one shard; its rows are their views, image by image."""

    records: Sequence[Record]
    recipe: ViewRecipe

    @cached_property
    def rows(self) -> tuple[tuple[Record, View], ...]:
        """The image and the view of each row."""
        return tuple((record, view) for record in self.records for view in self.recipe.views(record))

    @property
    def counts(self) -> tuple[int, ...]:
        """The number of tokens of each row."""
        return tuple(self.recipe.tokens(view) for _, view in self.rows)

    @property
    def about(self) -> tuple[str, ...]:
        """What each row is, as the shard stores it."""
        return tuple(json.dumps({"image_id": record.image_id, "view": view.to_dict()}) for record, view in self.rows)

    def batches(self, batch_size: int) -> Iterator[tuple[int, ...]]:
        """Yield the rows that are encoded together: views of one size, in the order in which their images come up."""
        per_image = self.recipe.view_count
        waiting: dict[tuple[int, int], list[int]] = {}
        for row, (_, view) in enumerate(self.rows):
            if row % (per_image * WINDOW) == 0:
                yield from (tuple(rest) for rest in waiting.values())
                waiting = {}
            batch = waiting.setdefault((view.height, view.width), [])
            batch.append(row)
            if len(batch) == batch_size:
                yield tuple(waiting.pop((view.height, view.width)))
        yield from (tuple(rest) for rest in waiting.values())


def plan_shards(
    records: Sequence[Record], recipe: ViewRecipe, *, token_bytes: int, shard_bytes: int, view_bytes: int = 0
) -> tuple[ShardPlan, ...]:
    """Return the shards for images in their order: each is filled up to shard_bytes and holds whole images, at least one.

    token_bytes: of a token in all blocks; view_bytes: what a view has beside its tokens.
    """
    firsts: list[int] = []
    room = 0
    for place, record in enumerate(records):
        needed = recipe.image_tokens(record) * token_bytes + recipe.view_count * view_bytes
        if not firsts or needed > room:
            firsts.append(place)
            room = shard_bytes
        room -= needed
    bounds = pairwise([*firsts, len(records)])
    return tuple(ShardPlan(records=records[first:end], recipe=recipe) for first, end in bounds)
