"""The exported WeakCLIP in onnxruntime against the one that the pipeline uses; skipped where the packages are not installed."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from stages.cli import app
from tests.untrained import save_untrained_weakclip
from weakclip.datasets.index import ClassList
from weakclip.inference import ViewLogits, logits_of_windows
from weakclip.network.trained import load_weakclip
from weakclip.pseudo_masks import predictor

CLASSES = ClassList(names=("cat", "ü"), synonyms=(("kitten",), ()), background_words=("grass", "sky"))
SIZE = 64  # half of what the positions of the mini CLIP are for


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["repaired", "published"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_onnxruntime_computes_what_the_pipeline_computes(variant: str, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    folder, out = tmp_path / "weakclip", tmp_path / "weakclip.onnx"
    save_untrained_weakclip(folder, CLASSES, variant, SIZE)
    result = CliRunner().invoke(app, ["export-onnx", "--model", str(folder), "--out", str(out)], catch_exceptions=False)
    assert result.exit_code == 0 and f"(batch, 3, {SIZE}, {SIZE}), RGB 0..255; logits:" in result.output
    session = runtime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == ["background", "cat", "ü"]
    assert [end.shape[0] for end in (*session.get_inputs(), *session.get_outputs())] == ["batch", "batch"]
    trained = load_weakclip(folder)
    predict = predictor(trained.model, trained.encoder)
    photos = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), np.uint8)
    wanted = logits_of_windows(predict, [(ViewLogits(photo, 3), 0, SIZE, 0, SIZE) for photo in photos]).numpy()
    assert wanted.std() > 0.01  # not the same everywhere, which would hide a shift
    for some, of_those in ((photos, wanted), (photos[1:2], wanted[1:2])):
        (found,) = session.run(["logits"], {"photos": some.transpose(0, 3, 1, 2).astype(np.float32)})
        assert found.shape == (len(some), 3, SIZE, SIZE) and np.abs(found - of_those).max() < 1e-4 * np.abs(wanted).max()
