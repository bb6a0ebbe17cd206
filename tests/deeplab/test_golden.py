import json

import numpy as np
import pytest

from tests.deeplab.golden import FILE, figures

TOLERANCES = {"deeplab_lr": 1e-9, "deeplab_augment": 1.0, "weakclip_augment": 1.0}  # by default those of a network


def test_every_family_gives_what_it_gave_when_it_agreed_with_the_released_code(monkeypatch: pytest.MonkeyPatch) -> None:
    stored, found = json.loads(FILE.read_text(encoding="utf-8")), figures(monkeypatch)
    assert found.keys() == stored.keys()
    for family, values in stored.items():
        np.testing.assert_allclose(found[family], values, atol=TOLERANCES.get(family, 1e-4), rtol=1e-3, err_msg=family)
