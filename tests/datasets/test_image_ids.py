import pytest

from weakclip.datasets.image_ids import image_ids


@pytest.mark.parametrize(
    ("photos", "ids"),
    [
        (["a.jpg", "far/b.v2.jpg"], ["a", "b.v2"]),
        (["cat/1.jpg", "dog/1.jpg", "2.jpg"], ["cat_1", "dog_1", "2"]),
        (["1.jpg", "cat/1.jpg"], ["1", "cat_1"]),
        (["x/cat/1.jpg", "y/cat/1.jpg", "dog/1.png"], ["x_cat_1", "y_cat_1", "dog_1"]),
        (["cat/1.jpg", "dog/1.jpg", "far/cat_1.jpg"], ["cat_1", "dog_1", "far_cat_1"]),
        (["Ka\u0308se.jpg"], ["K\u00e4se"]),
        (["cat/1.jpg", "cat/1.png"], ["cat_1", "cat_1"]),
    ],
)
def test_ids_have_as_many_folders_as_it_takes(photos: list[str], ids: list[str]) -> None:
    assert image_ids(photos) == ids
