import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.deeplab.slim_resnet38 import make_slim
from weakclip.datasets.index import ClassList
from weakclip.deeplab.deeplabv1 import DeepLabV1
from weakclip.deeplab.prediction import load_deeplab, predict_probabilities
from weakclip.deeplab.released import import_deeplab, is_deeplab
from weakclip.errors import WeakClipError
from weakclip.seeding import rng

CLASSES = ClassList(names=("cat", "dog"), synonyms=((), ()), background_words=())


@pytest.fixture
def slim(monkeypatch: pytest.MonkeyPatch) -> None:
    make_slim(monkeypatch)
    monkeypatch.setenv("WEAKCLIP_DEVICE", "cpu")
    torch.manual_seed(2)


def test_an_imported_checkpoint_predicts_as_the_network_it_came_from(slim: None, tmp_path: Path) -> None:
    model = DeepLabV1(3).eval()
    state = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save({**state, "module.from_scratch.weight": torch.zeros(2)}, tmp_path / "released.pth")
    imported = import_deeplab(tmp_path / "released.pth", CLASSES, tmp_path / "deeplab")
    assert imported.used == len(state) and imported.unused == ("from_scratch.weight",)
    card = json.loads((tmp_path / "deeplab" / "deeplab.json").read_text())
    assert card["classes"] == ["background", "cat", "dog"] and card["imported"]["name"] == "released.pth"
    photo = rng(0).integers(0, 256, (30, 41, 3)).astype(np.uint8)
    expected = predict_probabilities(model, photo, scales=(0.5, 1.0), flip=True)
    found = predict_probabilities(load_deeplab(tmp_path / "deeplab"), photo, scales=(0.5, 1.0), flip=True)
    assert np.array_equal(found, expected) and found.shape == (3, 30, 41)
    assert np.allclose(found.sum(axis=0), 1, atol=1e-5)


def test_what_does_not_fit_is_refused_by_name_and_nothing_is_written(slim: None, tmp_path: Path) -> None:
    file, out = tmp_path / "released.pth", tmp_path / "deeplab"
    state = DeepLabV1(21).state_dict()
    torch.save(state, file)
    with pytest.raises(WeakClipError, match=r"released\.pth has 21 classes, background included; the list of classes has 3"):
        import_deeplab(file, CLASSES, out)
    state = DeepLabV1(3).state_dict()
    del state["bn_fov.weight"]
    torch.save({**state, "conv_fov2.weight": torch.zeros(8, 9, 1, 1)}, file)
    with pytest.raises(WeakClipError, match=r"bn_fov\.weight is missing; conv_fov2\.weight: expected \(8, 8, .*, got \(8, 9"):
        import_deeplab(file, CLASSES, out)
    torch.save({"backbone.conv1.weight": torch.zeros(1)}, file)
    with pytest.raises(WeakClipError, match=r"is not a DeepLabV1 with ResNet38"):
        import_deeplab(file, CLASSES, out)
    torch.save({"cls_conv.weight": Path("/")}, file)
    with pytest.raises(WeakClipError, match="holds more than tensors"):
        import_deeplab(file, CLASSES, out)
    assert not out.exists()


def test_the_two_kinds_of_released_checkpoints_are_told_apart() -> None:
    nothing = torch.zeros(1)
    assert is_deeplab({"cls_conv.weight": nothing, "backbone.conv1a.weight": nothing})
    assert not is_deeplab({"decode_head.conv_seg.weight": nothing, "backbone.conv1.weight": nothing})
