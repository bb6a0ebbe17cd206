"""A process that is alone, and a shard that is written by several."""

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from weakclip import ranks
from weakclip.errors import WeakClipError
from weakclip.features.shards import Column, ShardLayout
from weakclip.features.writer import ShardWriter
from weakclip.journal import Journal, journalled
from weakclip.ranks import Ranks
from weakclip.whole_batch import average_gradients, mean_count, whole_batch


def test_alone_everything_is_ones_own_and_nothing_is_waited_for() -> None:
    world = ranks.world()
    assert (world.main, world.count, ranks.node().count) == (True, 1, 1)
    assert world.share([1, 2, 3]) == [1, 2, 3]
    assert world.part(5, "batch") == slice(0, 5)
    assert world.gathered("a") == ["a"]
    world.barrier()
    ranks.leave_to_main()
    tensor = torch.ones(2)
    assert world.average(tensor) is tensor
    assert world.stacked(tensor).shape == (1, 2)
    assert ranks.first_to_fail() and ranks.first_to_fail()


def test_alone_a_network_is_left_as_it_is() -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    with whole_batch():
        torch.nn.functional.dropout(weight, 0.0).sum().backward()
    average_gradients([weight])
    assert weight.grad is not None and weight.grad.tolist() == [1, 1]
    assert mean_count(torch.tensor([True, False])) == 1 and mean_count(torch.tensor([False])) == 1


def test_shares_are_all_items_once_and_do_not_depend_on_what_is_done() -> None:
    shares = [Ranks(rank, 3).share(range(8)) for rank in range(3)]
    assert [list(share) for share in shares] == [[0, 3, 6], [1, 4, 7], [2, 5]]
    assert [Ranks(rank, 3).part(6, "batch") for rank in range(3)] == [slice(0, 2), slice(2, 4), slice(4, 6)]


def test_a_batch_that_cannot_be_split_is_refused() -> None:
    with pytest.raises(WeakClipError, match=r"weakclip\.batch_size is 16, which 3 processes cannot share") as caught:
        Ranks(0, 3).part(16, "weakclip.batch_size")
    assert "15" in caught.value.hint


def test_a_journal_knows_the_rows_of_all_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.jsonl"
    Journal(path).append("a", {"x": 1})
    monkeypatch.setattr(ranks, "_world", Ranks(1, 2))
    other = Journal(path)
    other.append("b", {"x": 2})
    with (tmp_path / "rows-rank1.jsonl").open("a") as file:
        file.write('["c", {"x"')  # killed here
    monkeypatch.undo()
    assert other.finished == {"a"}
    assert Journal(path).finished == {"a", "b"}
    assert dict(journalled(path)) == {"a": {"x": 1}, "b": {"x": 2}}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["rows-rank1.jsonl", "rows.jsonl"]


COUNTS = (3, 1, 4, 1, 5, 2)
LAYOUT = ShardLayout(
    columns=(Column(name="tokens", shape=(2,), dtype="<f2"),), counts=COUNTS, about=("{}",) * len(COUNTS), attributes={}
)


class Threads(Ranks):
    """Ranks that are threads of this process."""

    def __init__(self, rank: int, barrier: Barrier) -> None:
        super().__init__(rank, barrier.parties)
        self._barrier = barrier

    def barrier(self) -> None:
        self._barrier.wait(timeout=30)


def entries(row: int) -> Mapping[str, NDArray[Any]]:
    return {"tokens": np.random.default_rng(row).normal(size=(COUNTS[row], 2)).astype("<f2")}


def write(path: Path, count: int, stop_after: int | None = None) -> list[int]:
    """Write a shard with so many ranks, or stop each as if it were killed; returns the rows that were written."""
    barrier = Barrier(count)

    def work(rank: int) -> list[int]:
        writer = ShardWriter(path, LAYOUT, ranks=Threads(rank, barrier))
        mine = [row for row in writer.missing if row % count == rank][:stop_after]
        for row in mine:
            writer.write(row, entries(row))
        if stop_after is None:
            writer.finish()
        else:
            writer.flush()
            os.close(writer._file)
        return mine

    with ThreadPoolExecutor(count) as pool:
        return sorted(row for rows in pool.map(work, range(count)) for row in rows)


def test_a_shard_of_several_writers_is_that_of_one(tmp_path: Path) -> None:
    for count in (1, 2, 3):
        assert write(tmp_path / f"{count}.h5", count) == list(range(len(COUNTS)))
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1
    assert len(list(tmp_path.iterdir())) == 3  # no journal is left


@pytest.mark.parametrize("later", [1, 2])
def test_what_killed_writers_left_is_gone_on_with_by_any_number(tmp_path: Path, later: int) -> None:
    write(tmp_path / "whole.h5", 1)
    path = tmp_path / "shard.h5"
    assert write(path, 3, stop_after=1) == [0, 1, 2]
    assert write(path, later) == [3, 4, 5]
    assert path.read_bytes() == (tmp_path / "whole.h5").read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["shard.h5", "whole.h5"]


def test_a_row_that_was_damaged_after_a_rank_had_written_it_is_written_again(tmp_path: Path) -> None:
    write(tmp_path / "whole.h5", 1)
    path = tmp_path / "shard.h5"
    write(path, 3, stop_after=1)
    part, second = tmp_path / "shard.h5.part", entries(1)["tokens"].tobytes()
    part.write_bytes(part.read_bytes().replace(second, bytes(len(second))))
    assert write(path, 2) == [1, 3, 4, 5]
    assert path.read_bytes() == (tmp_path / "whole.h5").read_bytes()
