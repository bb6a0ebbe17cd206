"""The exported network in onnxruntime against the network itself; skipped where the optional packages are not installed."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from stages.cli import app
from weakclip.deeplab.model import build_deeplab
from weakclip.deeplab.prediction import load_deeplab, predict_batch
from weakclip.errors import WeakClipError
from weakclip.onnx_export import file as onnx_file
from weakclip.weights import save_weights


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    network = build_deeplab(network="deeplabv3plus", encoder="mini", encoder_weights="none", num_classes=3, output_stride=16)
    with torch.no_grad():
        network.head.coarse.weight.mul_(10)
    names = ["background", "a", "ü"]
    card = {"network": "deeplabv3plus", "encoder": "mini", "num_classes": 3, "output_stride": 16, "classes": names}
    save_weights(tmp_path / "deeplab", "deeplab", network.state_dict(), card)
    return tmp_path / "deeplab"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_onnxruntime_computes_what_torch_computes(folder: Path, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    out = tmp_path / "new" / "deeplab.onnx"
    result = CliRunner().invoke(app, ["export-onnx", "--model", str(folder), "--out", str(out)], catch_exceptions=False)
    assert result.exit_code == 0 and "RGB 0..255" in result.output and "torch.onnx" not in result.output
    session = runtime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == ["background", "a", "ü"]
    for end in (*session.get_inputs(), *session.get_outputs()):
        assert end.shape == ["batch", 3, "height", "width"]  # three colours, three classes
    assert [path.name for path in out.parent.iterdir()] == ["deeplab.onnx"]
    model = load_deeplab(folder)
    rng = np.random.default_rng(0)
    for batch, height, width in ((1, 128, 128), (1, 100, 77), (3, 33, 250)):
        photos = rng.integers(0, 256, (batch, height, width, 3), np.uint8)
        wanted = predict_batch(model, photos, scales=(1.0,), flip=False)
        (found,) = session.run(["probabilities"], {"photos": photos.transpose(0, 3, 1, 2).astype(np.float32)})
        assert found.shape == wanted.shape and np.abs(found - wanted).max() < 1e-5
        assert wanted.std() > 0.01  # not the same everywhere, which would hide a shift


def test_what_is_missing_or_in_the_way_is_said(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "PACKAGES", ("onnx_of_nobody",))

    def export(out: str) -> None:
        CliRunner().invoke(app, ["export-onnx", "--model", str(folder), "--out", str(tmp_path / out)], catch_exceptions=False)

    with pytest.raises(WeakClipError, match="onnx_of_nobody cannot be imported") as caught:
        export("a.onnx")
    assert "[onnx]" in caught.value.hint
    with pytest.raises(WeakClipError, match=r"does not end in \.onnx"):
        export("a")
    (tmp_path / "b.onnx").touch()
    with pytest.raises(WeakClipError, match="is there already"):
        export("b.onnx")
