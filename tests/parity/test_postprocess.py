"""Files of saved scores through the refinement and the evaluation, against the released post-processing script."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.parity.cases import Case, cases, golden, marked
from weakclip.crf import CrfKernel
from weakclip.datasets.pickled import write_pickled_dictionary
from weakclip.evaluation import class_shares, mean_over_classes, score_masks
from weakclip.images import read_photo
from weakclip.masks import read_mask, write_mask
from weakclip.prob_npy import read_prob_npy
from weakclip.refinement import refine


@pytest.mark.parametrize("mode", ["npy", "npypng"])
@pytest.mark.parametrize("case", marked(cases("postprocess")))
def test_masks_and_figures_of_saved_scores_are_the_released_ones(case: Case, mode: str, tmp_path: Path) -> None:
    file = golden().Golden(case.path)
    keys, probabilities = file.stored("keys"), file.stored("prob")
    winners = keys[probabilities.argmax(axis=0)]
    write_pickled_dictionary(tmp_path / "a.npy", {"prob": probabilities, "keys": keys, "pred": winners[None]})
    Image.fromarray(file.stored("photo_decoded_rgb")).save(tmp_path / "a.png")
    scores = read_prob_npy(tmp_path / "a.npy")
    mask = scores.labels
    if mode == "npy":
        kernel, photo = CrfKernel(**case["kernel"]), read_photo(tmp_path / "a.png")
        mask, _, _ = refine(photo, scores.classes, scores.probabilities, kernel=kernel, tags=(), tag_limited=False, gate=0.0)
    agreement = file.agreement(f"{mode}_png", mask)
    assert agreement >= 0.999
    write_mask(tmp_path / "mask.png", mask)
    assert np.array_equal(read_mask(tmp_path / "mask.png"), mask)
    rtol = 1e-9 if agreement == 1 else 1e-2
    shares = class_shares(score_masks([(tmp_path / "mask.png", file.stored("gt"))], case["num_classes"]))
    np.testing.assert_allclose(shares.iou, file.stored(f"{mode}_iou"), rtol=rtol, equal_nan=True)
    means = [mean_over_classes(values) for values in (shares.iou, shares.false_positives, shares.false_negatives)]
    np.testing.assert_allclose(means, file.stored(f"{mode}_miou_fp_fn"), rtol=rtol)
