"""What the released script does to refine masks with a dense CRF, in words of our own; its processes import it from here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import joblib
import numpy as np
from PIL import Image
from pydensecrf.densecrf import DenseCRF2D
from pydensecrf.utils import unary_from_softmax

from weakclip.crf import CrfKernel
from weakclip.datasets.index import Record
from weakclip.prob_npy import read_prob_npy


def refine_as_released(records: Sequence[Record], folder: Path, kernel: CrfKernel, *, processes: int) -> None:
    """Masks ``folder/released/<image_id>.png`` from ``folder/prob_npy``, image by image in a process pool."""
    (folder / "released").mkdir(exist_ok=True)
    joblib.Parallel(n_jobs=processes)(
        joblib.delayed(_refine_one)(Path(record.photo), folder / "prob_npy", folder / "released", kernel) for record in records
    )


def _refine_one(photo: Path, probabilities: Path, out: Path, kernel: CrfKernel) -> None:
    saved = read_prob_npy(probabilities / f"{photo.stem}.npy")
    with Image.open(photo) as image:
        pixels = np.array(image.convert("RGB"))  # a copy, for the CRF takes none that is read-only
    height, width = pixels.shape[:2]
    field = DenseCRF2D(width, height, len(saved.classes))
    field.setUnaryEnergy(np.ascontiguousarray(unary_from_softmax(saved.probabilities)))
    field.addPairwiseGaussian(sxy=kernel.gaussian_sxy, compat=kernel.gaussian_compat)
    field.addPairwiseBilateral(
        sxy=kernel.bilateral_sxy, srgb=kernel.bilateral_srgb, rgbim=pixels, compat=kernel.bilateral_compat
    )
    winners = np.argmax(np.array(field.inference(kernel.iterations)), axis=0).reshape(height, width)
    Image.fromarray(saved.classes[winners].astype(np.uint8)).save(out / f"{photo.stem}.png")
