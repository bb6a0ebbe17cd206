"""The dense CRF, with the kernels of the presets, against the released code's on the same photos and probabilities."""

from __future__ import annotations

import pytest

from tests.conftest import ROOT
from tests.parity.cases import Case, cases, folder, golden, marked
from weakclip.crf import CrfKernel, dense_crf
from weakclip.params import load
from weakclip.params_schema import BoundaryCrfParams, CrfParams

LOSS_FLOOR = 1e-4  # of the probabilities that the boundary loss hands to its CRF
EQUAL = 0.999


def kernel(values: CrfParams | BoundaryCrfParams) -> CrfKernel:
    return CrfKernel(**{name: getattr(values, name) for name in CrfKernel.__dataclass_fields__})


@pytest.mark.parametrize("preset", ["voc12", "coco14"])
@pytest.mark.parametrize("case", marked(cases("crf")))
def test_post_processing_of_a_preset_is_the_released_one(case: Case, preset: str) -> None:
    file, name = golden().Golden(folder() / case.file), preset.removesuffix("14")
    params = load(ROOT / "weakclip" / "presets" / f"{preset}.yaml")
    sharpened = dense_crf(file.stored("photo_rgb"), file.stored("prob"), kernel(params.crf))
    file.check(f"{name}_q", sharpened, atol=1e-4, rtol=0)
    labels = file.stored("keys")[sharpened.argmax(axis=0)]
    assert file.agreement(f"{name}_label", labels) >= EQUAL


@pytest.mark.parametrize("preset", ["voc12", "coco14"])
@pytest.mark.parametrize("case", marked(cases("crf")))
def test_boundary_loss_of_a_preset_has_the_released_crf(case: Case, preset: str) -> None:
    file = golden().Golden(folder() / case.file)
    params = load(ROOT / "weakclip" / "presets" / f"{preset}.yaml")
    values = kernel(params.weakclip.boundary_crf)
    sharpened = dense_crf(file.stored("photo_rgb"), file.stored("prob"), values, floor=LOSS_FLOOR)
    file.check("loss_crf_q", sharpened, atol=1e-4, rtol=0)


@pytest.mark.parametrize("case", marked(cases("crf")))
def test_without_a_crf_the_label_is_the_key_of_the_largest_probability(case: Case) -> None:
    file = golden().Golden(folder() / case.file)
    assert file.agreement("npypng_label", file.stored("keys")[file.stored("prob").argmax(axis=0)]) == 1.0
