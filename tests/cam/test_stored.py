"""Which stored block a source starts from."""

from types import SimpleNamespace
from typing import Any

import pytest

from weakclip.cam.stored import block_before
from weakclip.errors import WeakClipError


def store(*blocks: int) -> Any:
    return SimpleNamespace(blocks=blocks, attributes={"model": "mini"})


@pytest.mark.parametrize(("count", "block"), [(1, 7), (4, 7), (5, 5), (0, 11)])
def test_the_last_block_that_is_early_enough_is_taken(count: int, block: int) -> None:
    assert block_before(store(3, 5, 7, 11), 12, count, "it") == block


def test_a_cache_without_such_a_block_says_what_to_set() -> None:
    with pytest.raises(WeakClipError, match=r"cam\.source gradcam needs the tokens after block 10 .* holds \[11\]") as caught:
        block_before(store(11), 12, 1, "cam.source gradcam")
    assert caught.value.hint == "set clip.blocks to [10, 11]"


def test_all_blocks_are_too_many() -> None:
    with pytest.raises(WeakClipError, match=r"cam\.affinity_blocks 5 would run all 5 blocks of mini"):
        block_before(store(0, 4), 5, 5, "cam.affinity_blocks 5")
