"""Seeds of other methods."""

from pathlib import Path

import numpy as np
import pytest

from weakclip.cam.imported import check_folder, imported_masks, read_maps
from weakclip.cam.thresholds import fixed_thresholds
from weakclip.datasets.index import Record
from weakclip.errors import WeakClipError
from weakclip.masks import write_mask

RECORD = Record(image_id="a", photo="a.jpg", height=2, width=4, split="train", tags=(2,), mask=None)


def seed(folder: Path) -> list[list[int]]:
    return imported_masks(RECORD, folder, 4, fixed_thresholds(3, 0.5, 0.0))[1].tolist()


def test_a_png_is_taken_as_it_is_and_resized(tmp_path: Path) -> None:
    write_mask(tmp_path / "a.png", np.array([[2, 255]], np.uint8))
    assert seed(tmp_path) == [[2, 2, 255, 255]] * 2


@pytest.mark.parametrize(
    "content",
    [
        {1: np.array([[0.4, 0.4, 0.1, 0.1]] * 2, np.float32)},
        {"keys": np.array([1]), "high_res": np.array([[[0.4, 0.4, 0.1, 0.1]] * 2], np.float32)},
        {"keys": np.array([1]), "cam": np.array([[[0.4, 0.4, 0.1, 0.1]] * 2], np.float32)},
        {"keys": np.array([1]), "attn_highres": np.array([[[0.4, 0.4, 0.1, 0.1]] * 2], np.float16)},
    ],
)
def test_maps_of_other_methods_are_normalised_and_thresholded(tmp_path: Path, content: dict[object, object]) -> None:
    np.save(tmp_path / "a.npy", np.array(content, dtype=object), allow_pickle=True)
    assert seed(tmp_path) == [[2, 2, 0, 0]] * 2


def test_foreign_indices_are_named(tmp_path: Path) -> None:
    write_mask(tmp_path / "a.png", np.full((2, 4), 9, np.uint8))
    with pytest.raises(WeakClipError, match=r"a\.png holds index 9"):
        seed(tmp_path)


def test_other_dictionaries_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array({"x": 1}, dtype=object), allow_pickle=True)
    with pytest.raises(WeakClipError, match=r"a\.npy"):
        read_maps(tmp_path / "a.npy")
    np.save(tmp_path / "a.npy", np.array({"keys": np.array([0]), "prob": np.zeros((1, 2, 4))}, dtype=object), allow_pickle=True)
    with pytest.raises(WeakClipError, match="none of high_res, cam and attn_highres") as info:
        read_maps(tmp_path / "a.npy")
    assert "weakclip import-masks" in info.value.hint


def test_missing_seeds_are_counted_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(WeakClipError, match="missing the seeds of 1 of 1"):
        check_folder(tmp_path, [RECORD])
