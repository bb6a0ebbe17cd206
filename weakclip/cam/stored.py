"""The stored tokens that a source of maps starts from, and what to do where the cache holds none that is early enough."""

from __future__ import annotations

import torch
from torch import Tensor

from weakclip.errors import WeakClipError
from weakclip.features.store import FeatureStore


class StoredTokens:
    """The output of one block for stored views, on a device."""

    def __init__(self, store: FeatureStore, block: int, device: torch.device) -> None:
        self.store, self.block, self.device = store, block, device

    def read(self, row: int) -> Tensor:
        """(1 + h w, C) float32 of a row, class token first."""
        return torch.from_numpy(self.store.read(row, [self.block])[self.block].astype("float32")).to(self.device)

    def grid(self, row: int) -> tuple[int, int]:
        """Patches of a row's view: h, w."""
        view = self.store.view(row)
        return view.height // self.store.patch, view.width // self.store.patch

    def flip(self, row: int) -> bool:
        """Whether the view is mirrored."""
        return self.store.view(row).flip


def block_before(store: FeatureStore, depth: int, count: int, what: str) -> int:
    """The last stored block before the last ``count`` of ``depth`` blocks, from which those can be run.

    Raises WeakClipError that names ``what`` needs it and the ``clip.blocks`` to set, where all stored blocks come later, or the
    whole network would have to be run.
    """
    latest = depth - 1 - count
    if latest < 0:
        raise WeakClipError(
            f"{what} would run all {depth} blocks of {store.attributes['model']}", f"at most {depth - 1} can be"
        )
    found = [block for block in store.blocks if block <= latest]
    if not found:
        wanted = sorted({*store.blocks, latest})
        raise WeakClipError(
            f"{what} needs the tokens after block {latest} or an earlier one; data/features holds {list(store.blocks)}",
            f"set clip.blocks to {wanted}",
        )
    return found[-1]
