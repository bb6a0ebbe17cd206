import tracemalloc

import numpy as np
import pytest

from weakclip.image_figures import ImageFigures, ImageIds

NAMES = ("b", "straße", "a", "猫", "a b")


def test_ids_keep_their_order_and_are_found() -> None:
    ids = ImageIds(NAMES)
    assert ids == NAMES
    assert [ids.place(name) for name in NAMES] == [0, 1, 2, 3, 4]
    assert ids.place("") is None and ids.place("zebra") is None and ids.place("straß") is None
    assert "猫" in ids and "狗" not in ids and 3 not in ids
    assert ids[1:3] == ("straße", "a")
    assert [ImageIds(sorted(NAMES)).place(name) for name in sorted(NAMES)] == [0, 1, 2, 3, 4]
    assert len(ImageIds([])) == 0 and ImageIds([]).place("a") is None


@pytest.mark.parametrize("names", [("a", "a"), ("b", "a", "b")])
def test_an_id_that_is_there_twice_is_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="each once"):
        ImageIds(names)


def test_figures_are_a_mapping_of_plain_numbers() -> None:
    figures = ImageFigures[float](ImageIds(NAMES), np.arange(5) / 4)
    assert figures == {"b": 0.0, "straße": 0.25, "a": 0.5, "猫": 0.75, "a b": 1.0}
    assert type(figures["a"]) is float and figures.get("x") is None
    with pytest.raises(KeyError, match="x"):
        figures["x"]
    with pytest.raises(ValueError, match="a number for each of 5 images"):
        ImageFigures(ImageIds(NAMES), np.arange(4))


def test_they_take_a_few_bytes_an_image() -> None:
    count = 10_000
    tracemalloc.start()
    ids = ImageIds(f"image_{number:06d}" for number in range(count))
    figures = ImageFigures[int](ids, np.arange(count))
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert figures["image_000017"] == 17
    assert kept / count < 24  # 12 for the id, 8 for the figure
