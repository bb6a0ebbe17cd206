import pytest

from benchmarks.pairs import Pair, alternate


def test_ways_take_turns_and_every_second_round_goes_backwards() -> None:
    order: list[str] = []
    clock = iter(range(1, 100))

    def way(name: str) -> float:
        order.append(name)
        return float(next(clock))

    seconds = alternate({"a": lambda: way("a"), "b": lambda: way("b")}, rounds=3, warm_up=1)
    assert order == ["b", "a", "a", "b", "b", "a", "a", "b"]
    assert seconds == {"a": (3.0, 6.0, 7.0), "b": (4.0, 5.0, 8.0)}


def test_a_pair_is_compared_round_by_round() -> None:
    pair = Pair(ours=(1.0, 2.0, 4.0), theirs=(3.0, 4.0, 16.0))
    assert pair.ratios == (3.0, 2.0, 4.0)
    assert pair.ratio == 3.0
    assert pair.spread == 2.0


def test_a_machine_that_grows_slower_changes_no_ratio() -> None:
    pair = Pair(ours=(1.0, 2.0, 3.0), theirs=(2.0, 4.0, 6.0))
    assert (pair.ratio, pair.spread) == (2.0, 0.0)


@pytest.mark.parametrize(("ours", "theirs"), [((), ()), ((1.0,), (1.0, 2.0)), ((0.0,), (1.0,))])
def test_times_that_cannot_be_compared_are_refused(ours: tuple[float, ...], theirs: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="equally many positive times"):
        Pair(ours, theirs)
