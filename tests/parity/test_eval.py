"""Evaluation against the counts, shares and printed figures of the released script."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from stages.score import main
from tests.parity.cases import Case, cases, folder, marked
from weakclip.evaluation import class_shares, mean_over_classes, score_masks
from weakclip.masks import write_mask


def read(case: Case) -> tuple[dict[str, np.ndarray], list[str]]:
    """The arrays of a case, and the numbers of its images: ``gt0`` and ``pred0``, ``gt1`` and ``pred1``, and so on."""
    with np.load(case.path) as file:
        arrays = dict(file)
    return arrays, [name.removeprefix("gt") for name in arrays if name.startswith("gt")]


@pytest.mark.parametrize("case", marked(cases("eval")))
def test_counts_and_shares_are_the_released_ones(case: Case) -> None:
    expected, images = read(case)
    confusion = score_masks([(expected[f"pred{n}"], expected[f"gt{n}"]) for n in images], case["num_classes"])
    counts = [np.diagonal(confusion), confusion[:, : case["num_classes"]].sum(axis=0), confusion.sum(axis=1)]
    np.testing.assert_array_equal(counts, expected["tp_p_t"])
    shares = class_shares(confusion)
    for name, values in (("iou", shares.iou), ("fp", shares.false_positives), ("fn", shares.false_negatives)):
        np.testing.assert_allclose(values, expected[name], rtol=1e-9, equal_nan=True)
    means = [mean_over_classes(values) for values in (shares.iou, shares.false_positives, shares.false_negatives)]
    np.testing.assert_allclose(means, expected["miou_fp_fn"], rtol=1e-9)


@pytest.mark.parametrize("case", marked(cases("eval")))
def test_weakclip_score_prints_the_released_figures(
    case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEAKCLIP_WORKERS", "1")
    arrays, images = read(case)
    for name in ("gt", "pred"):
        (tmp_path / name).mkdir()
        for n in images:
            write_mask(tmp_path / name / f"{n}.png", arrays[f"{name}{n}"])
    (tmp_path / "classes.txt").write_text("".join(f"class{index}\n" for index in range(1, case["num_classes"])))
    main(tmp_path / "pred", tmp_path / "gt", str(tmp_path / "classes.txt"))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    printed = (folder() / case["printout"]).read_text(encoding="utf-8")
    *classes, mean = re.findall(r":\s*(nan|[\d.]+)%", printed)
    assert [words[1].replace("-", "nan") for words in lines[-1 - case["num_classes"] : -1]] == classes
    means = [f"{float(value):.3f}" for value in re.findall(r"F[PN] = ([\d.]+)", printed)]
    assert lines[-1] == ["mIoU", mean, "FP", means[0], "FN", means[1]]
