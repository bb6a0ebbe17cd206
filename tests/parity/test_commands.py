"""A checkpoint of the released code's kind, imported and used by the commands alone."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages import generate_masks, import_checkpoint
from tests.conftest import ROOT, change_params
from tests.parity.cases import Case, cases, golden, marked
from tests.parity.networks import classes, config, imported, released_state, unwritten, window_and_stride, write_checkpoint
from weakclip.datasets.index import Dataset, Record, write_dataset
from weakclip.masks import read_mask
from weakclip.released.checkpoint import Unwritten
from weakclip.scores import ScoreStore

EQUAL = 0.999
"""Share of pixels whose class agrees."""
NETWORKS = list({case["manifest"]: case for case in cases("text", "forward")}.values())


@pytest.mark.parametrize("case", marked(NETWORKS))
def test_the_command_imports_what_the_tests_import(case: Case, tmp_path: Path) -> None:
    if unwritten(config(case)) != Unwritten():
        pytest.skip("other heads or blocks than released, which a checkpoint does not tell")
    names = config(case)["class_names"]
    write_checkpoint(tmp_path / "iter_8000.pth", released_state(case["manifest"], case["seed"]), names)
    (tmp_path / "classes.txt").write_text("\n".join(names[1:]))
    import_checkpoint.main(tmp_path / "iter_8000.pth", str(tmp_path / "classes.txt"), tmp_path / "out")
    same = imported(case)
    for name in ("weakclip.safetensors", "weakclip.json"):
        assert (tmp_path / "out" / name).read_bytes() == (same / name).read_bytes()


@pytest.mark.parametrize("case", marked(cases("tta")))
def test_generate_masks_gives_the_released_probabilities(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEAKCLIP_WORKERS", "1")
    stored, (_, stride) = golden().Golden(case.path), window_and_stride(case)
    photo = stored.stored("photo_rgb")
    Image.fromarray(photo).save(tmp_path / "a.png")
    height, width = photo.shape[:2]
    record = Record(image_id="a", photo="a.png", height=height, width=width, split="train", tags=(), mask=None)
    (tmp_path / "params.yaml").write_bytes((ROOT / "weakclip" / "presets" / "voc12.yaml").read_bytes())
    settings = {"scales": case["ratios"], "flip": True, "stride": stride, "tag_filter": False, "base_size": case["base_size"]}
    change_params(tmp_path / "params.yaml", {f"masks.{name}": value for name, value in settings.items()})
    with contextlib.chdir(tmp_path):
        write_dataset(Dataset(name="folder", classes=classes(case), records=(record,)), Path("data/dataset"))
        generate_masks.main(weakclip=imported(case))
        found, probabilities = ScoreStore(Path("data/masks/scores")).read("a")
        mask = read_mask(Path("data/masks/pseudo/a.png"))
    assert found.tolist() == stored.stored("keys").tolist()
    average = stored.stored("prob_avg")[0][found]
    np.testing.assert_allclose(probabilities, average, atol=case["atol"], rtol=2**-10)  # kept with eleven bits
    assert stored.agreement("pred", mask[None]) >= EQUAL
