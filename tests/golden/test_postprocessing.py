"""Figures of this project's own on a scene drawn here, written down when they agreed with the released code's on its data.

They run without that data; tests/parity holds the comparison itself.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from weakclip.crf import CrfKernel, dense_crf
from weakclip.evaluation import class_shares, confusion_matrix, mean_over_classes
from weakclip.prob_npy import SavedScores, read_prob_npy, write_prob_npy
from weakclip.refinement import refine

ROW = 9
VOC12 = CrfKernel(3, 3, 83, 5, 3, 10)
COCO14 = CrfKernel(1, 3, 67, 3, 4, 10)
LOSS = CrfKernel(3, 3, 80, 13, 10, 10)
KERNELS = {"voc12": VOC12, "coco14": COCO14, "loss": LOSS}
FLOORS = {"voc12": 1e-5, "coco14": 1e-5, "loss": 1e-4}

# of every fourth pixel of a row, for each class
LOG_PROBABILITIES = {
    "voc12": [
        [-0.12, -4.23, -9.08, -3.9, -4.77, -0.03],
        [-2.26, -0.02, -0.0, -0.03, -5.38, -4.53],
        [-5.09, -5.28, -7.4, -4.57, -0.01, -4.24],
    ],
    "coco14": [
        [-0.01, -6.86, -11.41, -6.35, -7.01, -0.01],
        [-5.23, -0.0, -0.0, -0.0, -7.42, -5.94],
        [-7.17, -6.94, -9.06, -7.02, -0.0, -5.89],
    ],
    "loss": [
        [-0.0, -11.44, -16.08, -10.93, -11.78, -0.0],
        [-8.98, -0.0, -0.0, -0.0, -12.44, -11.76],
        [-11.75, -12.49, -14.37, -11.61, -0.0, -11.42],
    ],
}
WINNERS = [303, 97, 80]  # pixels of each class after the CRF, of 195, 205 and 80 before it
FIGURES = [[0.51053, 0.15158, 0.33789], [0.7171, 0.0329, 0.25]]  # mIoU, FP, FN before and after the CRF; class 7 is never found


def scene() -> tuple[np.ndarray, np.ndarray]:
    """A photo of 20 x 24 pixels with a disc and a bar, (H, W, 3) uint8, and probabilities (3, H, W) that waver."""
    y, x = np.mgrid[:20, :24]
    disc, bar = (y - 9) ** 2 + (x - 7) ** 2 < 30, (x > 15) & (x < 20)
    shade = 60 + 120 * disc + 60 * bar + (7 * x + 5 * y) % 11
    photo = np.stack([shade, 255 - shade, (shade // 2) + 20], axis=2).astype(np.uint8)
    wave = 0.25 * np.sin(0.9 * x + 0.5 * y)
    scores = np.stack([0.4 - 0.3 * (disc | bar) + wave, 0.2 + 0.4 * disc - wave, 0.2 + 0.4 * bar + 0.5 * wave])
    return photo, np.clip(scores, 0.01, 1).astype(np.float32)


@pytest.mark.parametrize("name", KERNELS)
def test_the_dense_crf_gives_the_figures_written_down(name: str) -> None:
    photo, probabilities = scene()
    sharpened = dense_crf(photo, probabilities, KERNELS[name], floor=FLOORS[name])
    np.testing.assert_allclose(np.log(sharpened[:, ROW, ::4]), LOG_PROBABILITIES[name], atol=0.02)
    assert np.bincount(sharpened.argmax(axis=0).ravel()).tolist() == WINNERS


def test_saved_scores_are_refined_and_scored_as_written_down(tmp_path: Path) -> None:
    photo, probabilities = scene()
    write_prob_npy(tmp_path / "a.npy", SavedScores(classes=np.array([0, 4, 9]), probabilities=probabilities))
    scores = read_prob_npy(tmp_path / "a.npy")
    mask, _, _ = refine(photo, scores.classes, scores.probabilities, kernel=VOC12, tags=(), tag_limited=False, gate=0.0)
    assert np.bincount(mask.ravel())[[0, 4, 9]].tolist() == WINNERS
    truth = np.where(photo[..., 0] > 170, 4, np.where(photo[..., 0] > 110, 9, 0)).astype(np.uint8)
    truth[:2] = 255
    truth[-1] = 7
    before, after = (class_shares(confusion_matrix(labels, truth, 10)) for labels in (scores.labels, mask))
    figures = [
        [mean_over_classes(values) for values in (shares.iou, shares.false_positives, shares.false_negatives)]
        for shares in (before, after)
    ]
    np.testing.assert_allclose(figures, FIGURES, atol=5e-5)
