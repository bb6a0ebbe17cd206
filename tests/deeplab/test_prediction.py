from pathlib import Path

import numpy as np
import pytest
import torch

from weakclip.deeplab import prediction
from weakclip.deeplab.model import build_deeplab
from weakclip.deeplab.network import DeepLab
from weakclip.deeplab.prediction import load_deeplab, predict_batch, predict_probabilities
from weakclip.errors import WeakClipError
from weakclip.seeding import rng
from weakclip.weights import save_weights


@pytest.fixture(scope="module")
def model() -> DeepLab:
    torch.manual_seed(0)
    network = build_deeplab(network="deeplabv3plus", encoder="mini", encoder_weights="none", num_classes=3, output_stride=16)
    with torch.no_grad():
        network.head.coarse.weight.mul_(30)
    return network.eval()


def noise(*shape: int) -> np.ndarray:
    return rng(1, *shape).integers(0, 256, shape).astype(np.uint8)


@pytest.mark.parametrize(("height", "width"), [(32, 48), (50, 37), (8, 8), (9, 70)])
def test_probabilities_have_the_photos_size_and_add_up_to_one(model: DeepLab, height: int, width: int) -> None:
    found = predict_probabilities(model, noise(height, width, 3), scales=(1.0, 0.5, 1.5), flip=True)
    assert found.shape == (3, height, width) and found.dtype == np.float32
    assert np.allclose(found.sum(axis=0), 1, atol=1e-5)


def test_a_mirrored_photo_gives_mirrored_probabilities(model: DeepLab) -> None:
    photo = noise(32, 48, 3)  # no padding: that lies on the right in both
    there = predict_probabilities(model, photo, scales=(1.0,), flip=True)
    back = predict_probabilities(model, np.ascontiguousarray(photo[:, ::-1]), scales=(1.0,), flip=True)
    assert np.allclose(there, back[..., ::-1], atol=1e-5)


def test_scales_and_mirror_are_averaged(model: DeepLab) -> None:
    photo = noise(32, 32, 3)
    alone = [predict_probabilities(model, photo, scales=(scale,), flip=False) for scale in (1.0, 2.0)]
    assert np.allclose(predict_probabilities(model, photo, scales=(1.0, 2.0), flip=False), np.mean(alone, axis=0), atol=1e-6)


def test_a_batch_gives_what_its_photos_give(model: DeepLab) -> None:
    photos = noise(3, 40, 40, 3)
    together = predict_batch(model, photos, scales=(1.0,), flip=True)
    for photo, expected in zip(photos, together, strict=True):
        assert np.allclose(predict_probabilities(model, photo, scales=(1.0,), flip=True), expected, atol=1e-4)


def test_the_network_never_sees_more_than_its_limit(model: DeepLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prediction, "LARGEST_VIEW", 32 * 32)
    seen = []
    handle = model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape[-2:]))
    found = predict_probabilities(model, noise(64, 256, 3), scales=(1.0, 2.0), flip=False)
    handle.remove()
    assert found.shape == (3, 64, 256) and seen == [(16, 64), (16, 64)]


def test_wrong_calls_are_refused(model: DeepLab) -> None:
    with pytest.raises(ValueError, match="uint8, got"):
        predict_batch(model, noise(8, 8, 3), scales=(1.0,), flip=False)
    with pytest.raises(ValueError, match="at least one scale"):
        predict_batch(model, noise(1, 8, 8, 3), scales=(), flip=False)
    model.train()
    with pytest.raises(ValueError, match="training mode"):
        predict_batch(model, noise(1, 8, 8, 3), scales=(1.0,), flip=False)
    model.eval()


def test_a_saved_network_predicts_the_same(model: DeepLab, tmp_path: Path) -> None:
    card = {"network": "deeplabv3plus", "encoder": "mini", "num_classes": 3, "output_stride": 16}
    save_weights(tmp_path, "deeplab", model.state_dict(), card)
    loaded = load_deeplab(tmp_path)
    photo = noise(32, 32, 3)
    first, second = (predict_probabilities(network, photo, scales=(1.0,), flip=False) for network in (model, loaded))
    assert np.array_equal(first, second)
    assert loaded.card["num_classes"] == 3 and not loaded.training


def test_other_weights_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(WeakClipError, match=r"deeplab\.safetensors is missing"):
        load_deeplab(tmp_path)
    save_weights(tmp_path, "deeplab", {"a": torch.zeros(1)}, {"network": "other"})
    with pytest.raises(WeakClipError, match="is not a retrained DeepLab"):
        load_deeplab(tmp_path)
