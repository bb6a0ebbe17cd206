"""In what numbers the store keeps tokens: the only module that knows more than one kind.

A format says which columns a block has in a shard, what goes into them, and how tokens come back out of them. The rest of the
store moves columns about, whatever they hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from weakclip.features.shards import Column

LEVELS: Final = 127  # of int8 on either side of zero: -128 is left out, so that a token and its negative are stored alike
Floats = NDArray[np.floating[Any]]


class TokenFormat(Protocol):
    """``name``: as in `features.dtype`. ``decoded``: what tokens are, as they come back."""

    decoded: np.dtype[np.floating[Any]]

    @property
    def name(self) -> str:
        """As in `features.dtype`."""

    def columns(self, block: int, width: int) -> tuple[Column, ...]:
        """The columns of a block whose tokens have ``width`` channels."""
        ...

    def encode(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """What the columns hold of the tokens (B, N, C) of B rows: (B, entries, C) for each column, on the same device."""
        ...

    def decode(self, entries: Sequence[NDArray[Any]]) -> Floats:
        """The tokens (N, C) of a row from its entries in each column; a window on these where nothing has to be computed."""
        ...

    def decode_into(self, out: Floats, entries: Sequence[NDArray[Any]]) -> None:
        """Writes what `decode` returns to ``out``, (N, C) float16 or float32."""
        ...


class HalfTokens:
    """Numbers of 16 bits, as they are: relative error up to 0.05 %, nothing above 65,504."""

    name = "float16"
    decoded = np.dtype(np.float16)

    def columns(self, block: int, width: int) -> tuple[Column, ...]:
        return (Column(name=f"block_{block}", shape=(width,), dtype="<f2"),)

    def encode(self, tokens: Tensor) -> tuple[Tensor, ...]:
        return (tokens.to(torch.float16),)

    def decode(self, entries: Sequence[NDArray[Any]]) -> Floats:
        return entries[0]

    def decode_into(self, out: Floats, entries: Sequence[NDArray[Any]]) -> None:
        out[...] = entries[0]


class ByteTokens:
    """Whole numbers of -127..127 and, for each view and channel, a float32 that they are multiples of: half the size.

    The scale is the channel's largest magnitude in the view, over 127, so a value is off by at most half a scale: 0.4 % of that
    magnitude. Channels differ by orders of magnitude in a CLIP, tokens of a view far less: those of the mini CLIP come back
    with a relative error of 0.5 % (norm of the difference) and a cosine of at least 0.9999.
    """

    name = "int8"
    decoded = np.dtype(np.float32)

    def columns(self, block: int, width: int) -> tuple[Column, ...]:
        return (
            Column(name=f"block_{block}", shape=(width,), dtype="|i1"),
            Column(name=f"block_{block}_scale", shape=(width,), dtype="<f4", once_a_row=True),
        )

    def encode(self, tokens: Tensor) -> tuple[Tensor, ...]:
        scales = tokens.float().abs().amax(dim=1, keepdim=True) / LEVELS
        multiples = (tokens / scales).nan_to_num(0.0).round().clamp(-LEVELS, LEVELS)  # 0 / 0 where a channel is all zeros
        return multiples.to(torch.int8), scales

    def decode(self, entries: Sequence[NDArray[Any]]) -> Floats:
        multiples, scales = entries
        tokens: NDArray[np.float32] = np.multiply(multiples, scales, dtype=np.float32)
        return tokens

    def decode_into(self, out: Floats, entries: Sequence[NDArray[Any]]) -> None:
        multiples, scales = entries
        np.multiply(multiples, scales, out=out, dtype=np.float32, casting="same_kind")


FLOAT16: Final = HalfTokens()
FORMATS: Final[Mapping[str, TokenFormat]] = {"float16": FLOAT16, "int8": ByteTokens()}
