"""The class scores that the released WeakCLIP saves for each image, ``prob_npy/<image>.npy``: pickled dictionaries.

``prob`` (n, H, W) float32 holds the averaged probabilities of the classes that win at least one pixel, not renormalised;
``keys`` (n,) int64 those classes, ascending; ``pred`` (1, H, W) int64 the winner of every pixel. The retraining code writes
files of the same names and keys that hold logits instead: their ``pred`` is (H, W).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from weakclip.datasets.pickled import read_pickled_dictionary, write_pickled_dictionary
from weakclip.errors import WeakClipError


@dataclass(frozen=True)
class SavedScores:
    """``classes``: (n,) int64, ascending. ``probabilities``: (n, H, W) float32, 0..1."""

    classes: NDArray[np.int64]
    probabilities: NDArray[np.float32]

    @property
    def labels(self) -> NDArray[np.uint8]:
        """The class of the largest probability of every pixel, (H, W)."""
        labels: NDArray[np.uint8] = self.classes.astype(np.uint8)[self.probabilities.argmax(axis=0)]
        return labels


def read_prob_npy(path: Path) -> SavedScores:
    """Read one file, without running anything that it says.

    Raises:
        WeakClipError: names the file that is missing, damaged, of other content, or holds the logits of the retraining code.
    """
    content = read_pickled_dictionary(path)
    missing = [name for name in ("prob", "keys", "pred") if not isinstance(content.get(name), np.ndarray)]
    if missing:
        raise WeakClipError(f"{path} has no array {missing[0]!r}", "give it the prob_npy files of the released WeakCLIP")
    probabilities, classes, winners = content["prob"], content["keys"], content["pred"]
    shape = (len(classes), *winners.shape[-2:])
    if probabilities.shape != shape or classes.ndim != 1 or classes.dtype.kind not in "iu" or probabilities.dtype.kind != "f":
        found = f"prob {probabilities.shape} {probabilities.dtype}, keys {classes.shape} {classes.dtype}, pred {winners.shape}"
        raise WeakClipError(f"{path} does not fit together: {found}", "give it the prob_npy files of the released WeakCLIP")
    if len(classes) == 0 or (np.diff(classes) <= 0).any() or classes.min() < 0 or classes.max() > 254:
        raise WeakClipError(f"{path} has the keys {classes.tolist()}", "keys are class indices from 0, ascending, at least one")
    if winners.ndim != 3 or not (probabilities.min() >= 0 and probabilities.max() <= 1.001):
        problem = f"{path} holds logits or other scores, not probabilities"
        raise WeakClipError(problem, "files of the retraining code look alike; use those that WeakCLIP's own test script wrote")
    return SavedScores(classes=classes.astype(np.int64), probabilities=probabilities.astype(np.float32))


def write_prob_npy(path: Path, scores: SavedScores) -> None:
    """Write one file as the released code does: only the classes that win a pixel are kept."""
    winners = scores.probabilities.argmax(axis=0)
    kept = np.unique(winners)
    content = {
        "prob": np.ascontiguousarray(scores.probabilities[kept], dtype=np.float32),
        "keys": scores.classes[kept].astype(np.int64),
        "pred": scores.classes[winners][None].astype(np.int64),
    }
    write_pickled_dictionary(path, content)
