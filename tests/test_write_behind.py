"""Calls made in a thread."""

import threading

import pytest

from weakclip.write_behind import WriteBehind


def test_calls_are_made_in_order_and_all_of_them_at_the_end() -> None:
    made: list[int] = []
    with WriteBehind() as behind:
        for number in range(20):
            behind(made.append, number)
    assert made == list(range(20))


def test_only_so_many_calls_wait() -> None:
    gate, made = threading.Event(), []
    with WriteBehind(waiting=2) as behind:
        behind(gate.wait)
        behind(made.append, 1)
        caller = threading.Thread(target=behind, args=(made.append, 2))
        caller.start()
        caller.join(0.05)
        assert caller.is_alive() and not made
        gate.set()
        caller.join()
    assert made == [1, 2]


def fail() -> None:
    raise OSError("the disk is full")


def test_an_error_reaches_the_caller_at_the_end() -> None:
    with pytest.raises(OSError, match="disk is full"), WriteBehind() as behind:
        behind(fail)


def test_an_error_reaches_a_later_call() -> None:
    def write_much() -> None:
        with WriteBehind() as behind:
            for _ in range(3):
                behind(fail)
            raise AssertionError("expected the error of the first call")

    with pytest.raises(OSError, match="disk is full"):
        write_much()


def test_what_was_handed_over_is_written_when_the_caller_fails() -> None:
    made: list[int] = []
    with pytest.raises(KeyboardInterrupt), WriteBehind() as behind:
        behind(made.append, 1)
        raise KeyboardInterrupt
    assert made == [1]
