import pickle
import tracemalloc

import pytest

from weakclip.selection import Selection, select, sliced

WORDS = ("zero", "one", "two", "three", "four", "five")


def test_a_selection_has_the_wanted_items_in_their_order() -> None:
    with_e = select(WORDS, lambda word: "e" in word)
    assert list(with_e) == ["zero", "one", "three", "five"]
    assert (with_e[0], with_e[-1], len(with_e)) == ("zero", "five", 4)
    assert with_e == ("zero", "one", "three", "five")
    assert with_e != ("zero", "one", "three", "four")
    with pytest.raises(IndexError):
        with_e[4]


def test_slices_and_selections_of_selections() -> None:
    with_e = select(WORDS, lambda word: "e" in word)
    assert isinstance(with_e[1:3], Selection)
    assert list(with_e[1:3]) == ["one", "three"]
    assert list(with_e[::-2]) == ["five", "one"]
    assert list(select(with_e, lambda word: len(word) == 4)) == ["zero", "five"]
    assert not select(WORDS, lambda word: False)


def test_another_process_gets_the_items_alone() -> None:
    large = [bytes(1000)] * 1000
    assert len(pickle.dumps(select(large, lambda item: True)[:2])) < 3000
    assert pickle.loads(pickle.dumps(select(WORDS, lambda word: word > "t"))) == ("zero", "two", "three")


def test_a_selection_takes_four_bytes_an_item_and_a_slice_those_of_its_own() -> None:
    many = range(100_000)
    tracemalloc.start()
    even = select(many, lambda number: number % 2 == 0)
    kept = tracemalloc.get_traced_memory()[0]
    assert even[-1] == 99_998
    assert kept < 5 * len(even)
    tracemalloc.reset_peak()
    some = sliced(many, slice(70_000, 70_032))
    assert tracemalloc.get_traced_memory()[1] - kept < 10_000
    tracemalloc.stop()
    assert [*some] == [*range(70_000, 70_032)] and [*sliced(many, slice(-1, None, -50_000))] == [99_999, 49_999]
