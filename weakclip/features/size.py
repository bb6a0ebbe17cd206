"""How large a feature cache becomes: arithmetic on the images and the views that they are to have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from weakclip.datasets.index import Record
from weakclip.features.plan import ViewRecipe
from weakclip.features.token_formats import TokenFormat


@dataclass(frozen=True, kw_only=True)
class CacheSize:
    """How much is stored; n_bytes are those of the tokens."""

    images: int
    views: int
    tokens: int
    n_bytes: int


def stored_bytes(token_format: TokenFormat, widths: Mapping[int, int]) -> tuple[int, int]:
    """The bytes of a token in all blocks, and those that a view has beside its tokens."""
    bytes_of = {False: 0, True: 0}
    for block, width in widths.items():
        for column in token_format.columns(block, width):
            bytes_of[column.once_a_row] += np.dtype(column.dtype).itemsize * prod(column.shape)
    return bytes_of[False], bytes_of[True]


def cache_size(
    records: Sequence[Record], recipe: ViewRecipe, token_format: TokenFormat, widths: Mapping[int, int]
) -> CacheSize:
    """What the views of the images take as tokens of blocks with so many channels (`block_widths`)."""
    token_bytes, view_bytes = stored_bytes(token_format, widths)
    tokens = sum(recipe.image_tokens(record) for record in records)
    views = len(records) * recipe.view_count
    return CacheSize(images=len(records), views=views, tokens=tokens, n_bytes=tokens * token_bytes + views * view_bytes)
