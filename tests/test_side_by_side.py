import threading
import time
from collections.abc import Iterator

import pytest
import torch

from weakclip.side_by_side import MOST, map_ahead, side_by_side


def test_results_come_in_the_order_of_the_items_whichever_is_ready_first() -> None:
    def slow_when_early(number: int) -> int:
        time.sleep(0.02 if number % 3 == 0 else 0)
        return number * number

    assert list(map_ahead(slow_when_early, range(20), threads=3, ahead=4)) == [number * number for number in range(20)]


def test_no_more_items_are_taken_than_may_wait() -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(100):
            taken += 1
            yield number

    results = map_ahead(lambda number: number, items(), threads=2, ahead=5)
    assert [next(results) for _ in range(10)] == [*range(10)]
    assert taken == 15


def test_an_error_comes_out_in_its_place_and_what_was_waiting_is_dropped() -> None:
    ran, threads = [], threading.active_count()

    def fail_at_two(number: int) -> int:
        ran.append(number)
        if number == 2:
            raise ValueError("two")
        return number

    results = map_ahead(fail_at_two, range(100), threads=1, ahead=3)
    assert (next(results), next(results)) == (0, 1)
    with pytest.raises(ValueError, match="two"):
        next(results)
    assert len(ran) < 10 and threading.active_count() == threads


def test_torchs_threads_are_shared_out_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    monkeypatch.setenv("WEAKCLIP_DEVICE", "cpu")
    try:
        for threads, batches, each in ((1, 1, 1), (2, 2, 1), (9, MOST, 2)):
            torch.set_num_threads(threads)
            with side_by_side() as found:
                assert (found, torch.get_num_threads()) == (batches, each)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
