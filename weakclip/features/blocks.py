"""The numbers that blocks of tokens go by, and how wide they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

SECOND: Final = 1000
"""The number that the tokens of a second encoder have among the blocks: more than any transformer has."""


def block_widths(blocks: Sequence[int], width: int, attributes: Mapping[str, Any]) -> dict[int, int]:
    """Channels of the tokens of each block: ``width`` of CLIP's, and of a second encoder's what ``attributes`` say of it."""
    return {block: int(attributes["second"]["width"]) if block == SECOND else width for block in blocks}
