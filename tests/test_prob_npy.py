"""Class scores in the released code's files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from weakclip.datasets.pickled import read_pickled_dictionary, write_pickled_dictionary
from weakclip.errors import WeakClipError
from weakclip.prob_npy import SavedScores, read_prob_npy, write_prob_npy

SCORES = SavedScores(
    classes=np.array([0, 4, 9]), probabilities=np.array([[[0.5, 0.2]], [[0.3, 0.6]], [[0.1, 0.1]]], np.float32)
)


def content() -> dict[str, np.ndarray]:
    return {"prob": SCORES.probabilities, "keys": SCORES.classes, "pred": np.array([[[0, 4]]])}


def problem(path: Path, **changed: object) -> str:
    write_pickled_dictionary(path, {name: value for name, value in (content() | changed).items() if value is not None})
    with pytest.raises(WeakClipError) as caught:
        read_prob_npy(path)
    assert str(path) in caught.value.problem
    return caught.value.problem


def test_only_classes_that_win_a_pixel_are_written(tmp_path: Path) -> None:
    write_prob_npy(tmp_path / "a.npy", SCORES)
    raw = read_pickled_dictionary(tmp_path / "a.npy")
    assert raw["keys"].tolist() == [0, 4] and raw["pred"].tolist() == [[[0, 4]]]
    np.testing.assert_array_equal(raw["prob"], SCORES.probabilities[:2])
    assert [raw[name].dtype for name in ("prob", "keys", "pred")] == [np.float32, np.int64, np.int64]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    write_prob_npy(tmp_path / "a.npy", SCORES)
    again = read_prob_npy(tmp_path / "a.npy")
    assert again.labels.tolist() == [[0, 4]]
    write_prob_npy(tmp_path / "b.npy", again)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


def test_logits_of_the_retraining_code_are_refused(tmp_path: Path) -> None:
    assert "logits" in problem(tmp_path / "a.npy", prob=SCORES.probabilities * 10 - 3)
    assert "logits" in problem(tmp_path / "b.npy", pred=np.array([[0, 4]]))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"pred": None}, "no array 'pred'"),
        ({"prob": "x"}, "no array 'prob'"),
        ({"keys": np.array([0, 4])}, "does not fit together"),
        ({"pred": np.zeros((1, 2, 2), int)}, "does not fit together"),
        ({"keys": np.array([4, 0, 9])}, r"[4, 0, 9]"),
        ({"keys": np.array([0, 4, 255])}, r"[0, 4, 255]"),
    ],
)
def test_other_content_is_refused_by_name(tmp_path: Path, changed: dict[str, object], words: str) -> None:
    assert words in problem(tmp_path / "a.npy", **changed)
