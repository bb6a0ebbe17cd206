"""Evaluation against the counts, shares and printed figures of the released script."""

from __future__ import annotations

import re

import numpy as np
import pytest

from stages.score import percent
from tests.parity.cases import Case, cases, folder
from weakclip.evaluation import ClassShares, class_shares, mean_over_classes, score_masks


def score(case: Case) -> tuple[np.ndarray, ClassShares, dict[str, np.ndarray]]:
    with np.load(case.path) as file:
        arrays = dict(file)
    numbers = [name.removeprefix("gt") for name in arrays if name.startswith("gt")]
    confusion = score_masks([(arrays[f"pred{n}"], arrays[f"gt{n}"]) for n in numbers], case["num_classes"])
    return confusion, class_shares(confusion), arrays


@pytest.mark.parametrize("case", cases("eval"))
def test_counts_and_shares_are_the_released_ones(case: Case) -> None:
    confusion, shares, expected = score(case)
    counts = [np.diagonal(confusion), confusion[:, : case["num_classes"]].sum(axis=0), confusion.sum(axis=1)]
    np.testing.assert_array_equal(counts, expected["tp_p_t"])
    for name, values in (("iou", shares.iou), ("fp", shares.false_positives), ("fn", shares.false_negatives)):
        np.testing.assert_allclose(values, expected[name], rtol=1e-9, equal_nan=True)
    means = [mean_over_classes(values) for values in (shares.iou, shares.false_positives, shares.false_negatives)]
    np.testing.assert_allclose(means, expected["miou_fp_fn"], rtol=1e-9)


@pytest.mark.parametrize("case", cases("eval"))
def test_printed_figures_are_the_released_ones(case: Case) -> None:
    _, shares, _ = score(case)
    text = (folder() / case["printout"]).read_text(encoding="utf-8")
    *classes, mean = re.findall(r":\s*(nan|[\d.]+)%", text)
    assert [percent(value).strip().replace("-", "nan") for value in shares.iou] == classes
    assert percent(mean_over_classes(shares.iou)).strip() == mean
    printed = [float(value) for value in re.findall(r"F[PN] = ([\d.]+)", text)]
    means = [100 * mean_over_classes(values) for values in (shares.false_positives, shares.false_negatives)]
    np.testing.assert_allclose(means, printed, rtol=1e-9)
