"""Order of training images."""

from collections import Counter

from weakclip.sampling import batch_indices, held_out


def batches(steps: int, **settings: int) -> list[int]:
    drawn = [
        batch_indices(step, count=settings["count"], batch_size=settings["size"], seed=0, purpose="test")
        for step in range(steps)
    ]
    return [index for batch in drawn for index in batch]


def test_every_image_comes_once_per_pass_even_if_batches_span_two() -> None:
    drawn = batches(7, count=10, size=3)
    assert sorted(drawn[:10]) == sorted(drawn[10:20]) == list(range(10))
    assert drawn[:10] != drawn[10:20]


def test_batches_larger_than_the_data_set_repeat_it() -> None:
    assert Counter(batches(2, count=3, size=6)) == {0: 4, 1: 4, 2: 4}


def test_a_step_does_not_depend_on_the_steps_before() -> None:
    alone = batch_indices(41, count=100, batch_size=7, seed=3, purpose="x")
    batches(10, count=50, size=4)
    assert alone == batch_indices(41, count=100, batch_size=7, seed=3, purpose="x")


def test_held_out_share_is_seeded_and_never_all() -> None:
    marked = held_out(100, 0.1, 0)
    assert marked.sum() == 10 and (marked == held_out(100, 0.1, 0)).all() and (marked != held_out(100, 0.1, 1)).any()
    assert held_out(100, 0.0, 0).sum() == 0
    assert held_out(1, 0.1, 0).sum() == 0
    assert held_out(5, 0.1, 0).sum() == 1
