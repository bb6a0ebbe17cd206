"""The released code's saved scores: read as they are, and written as they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.parity.cases import Case, cases, folder, golden, marked
from weakclip.datasets.pickled import read_pickled_dictionary
from weakclip.inference import limit_to_winners
from weakclip.prob_npy import SavedScores, read_prob_npy, write_prob_npy

NAMES = ["prob", "keys", "pred"]


@pytest.mark.parametrize("case", marked(cases("prob_npy")))
def test_a_saved_file_is_read(case: Case) -> None:
    scores = read_prob_npy(folder() / case.file)
    raw = read_pickled_dictionary(folder() / case.file)
    np.testing.assert_array_equal(scores.probabilities, raw["prob"])
    np.testing.assert_array_equal(scores.classes, raw["keys"])
    np.testing.assert_array_equal(scores.labels[None], raw["pred"])


@pytest.mark.parametrize("case", marked(cases("prob_npy")))
def test_what_is_written_for_the_same_average_is_the_same(case: Case, tmp_path: Path) -> None:
    average = golden().Golden(folder() / case["average"]).stored("prob_avg")[0]
    everything = SavedScores(classes=np.arange(len(average)), probabilities=average)
    write_prob_npy(tmp_path / "a.npy", everything)
    mine, released = read_pickled_dictionary(tmp_path / "a.npy"), read_pickled_dictionary(folder() / case.file)
    assert list(mine) == list(released) == NAMES
    for name in NAMES:
        np.testing.assert_array_equal(mine[name], released[name])
        assert mine[name].dtype == released[name].dtype
    write_prob_npy(tmp_path / "b.npy", read_prob_npy(folder() / case.file))
    assert (tmp_path / "b.npy").read_bytes() == (tmp_path / "a.npy").read_bytes()


@pytest.mark.parametrize("case", marked(cases("prob_npy")))
def test_the_pipeline_keeps_the_same_classes_without_tags(case: Case) -> None:
    average = golden().Golden(folder() / case["average"]).stored("prob_avg")[0]
    classes, kept = limit_to_winners(average)
    released = read_prob_npy(folder() / case.file)
    np.testing.assert_array_equal(classes, released.classes)
    np.testing.assert_array_equal(kept, released.probabilities)
