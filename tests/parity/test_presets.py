"""The presets of VOC and COCO hold the kernels with which the released code's data were made; runs without the data."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.parity.cases import OWN_INDEX
from weakclip.params import load
from weakclip.params_schema import BoundaryCrfParams, CrfParams

INDEX: list[dict[str, Any]] = json.loads(OWN_INDEX.read_text(encoding="utf-8"))["cases"]


def released(family: str, name: str) -> list[dict[str, float]]:
    """The kernels of this name in all cases of the family."""
    return [case["kernels"][name] for case in INDEX if case["family"] == family]


def kernel(values: CrfParams | BoundaryCrfParams, names: dict[str, float]) -> dict[str, float]:
    return {name: getattr(values, name) for name in names}


@pytest.mark.parametrize(("preset", "name"), [("voc12", "voc12"), ("coco14", "coco")])
def test_kernels_of_a_preset_are_the_released_ones(preset: str, name: str) -> None:
    params = load(ROOT / "weakclip" / "presets" / f"{preset}.yaml")
    for expected in released("crf", name):
        assert kernel(params.crf, expected) == expected
    for expected in released("crf", "loss_crf"):
        assert kernel(params.weakclip.boundary_crf, expected) == expected
