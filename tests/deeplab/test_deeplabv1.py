from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.deeplab.slim_resnet38 import make_slim, mxnet_name, write_weights
from weakclip.deeplab.deeplabv1 import DeepLabV1, build, parameter_groups
from weakclip.deeplab.prediction import fuse_views, predict_batch
from weakclip.deeplab.recipe import Retraining
from weakclip.deeplab.resnet38 import ResNet38, load_resnet38, rename_mxnet
from weakclip.errors import WeakClipError
from weakclip.seeding import rng

SETTINGS = Retraining(
    network="deeplabv1_resnet38",
    encoder="resnet38",
    encoder_weights="none",
    output_stride=8,
    iterations=40,
    batch_size=4,
    lr=0.05,
    encoder_lr_factor=0.1,
    weight_decay=5e-4,
    crop_size=64,
    scale=(0.5, 1.5),
    colour=0.1,
    validate_every=10,
    checkpoint_every=10,
)


@pytest.fixture(scope="module")
def model() -> DeepLabV1:
    torch.manual_seed(0)
    return build(encoder="resnet38", encoder_weights="none", num_classes=3, output_stride=8)


def test_logits_are_an_eighth_of_the_photo_whatever_its_sides(model: DeepLabV1) -> None:
    model.eval()
    with torch.inference_mode():
        assert model(torch.zeros(1, 3, 33, 50)).shape == (1, 3, 5, 7)
        assert model.backbone(torch.zeros(1, 3, 16, 24)).shape == (1, 4096, 2, 3)


def test_every_weight_of_a_convolution_learns_and_no_norm_does(model: DeepLabV1) -> None:
    recipe = model.recipe(replace(SETTINGS, lr=1e-4), photos=8)
    recipe.set_training(0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    loss = model(torch.rand(2, 3, 32, 32) * 255).square().mean()
    loss.backward()
    for group, rate in zip(recipe.optimizer.param_groups, recipe.rates_of_step(0), strict=True):
        group["lr"] = rate
    recipe.optimizer.step()
    for name, tensor in model.state_dict().items():
        norm, counted = "bn" in name, "running" in name or "tracked" in name
        assert torch.equal(tensor, before[name]) == (norm and not counted), name
    model.zero_grad()


def test_the_first_convolution_rests_after_the_first_pass(model: DeepLabV1) -> None:
    recipe = model.recipe(SETTINGS, photos=11)  # two whole batches of four
    learning = []
    for step in range(4):
        recipe.set_training(step)
        assert model.training
        learning.append(model.backbone.conv1a.weight.requires_grad)
    assert learning == [True, True, False, False]
    model.backbone.conv1a.requires_grad_(True)


def test_rates_follow_the_released_groups(model: DeepLabV1) -> None:
    recipe = model.recipe(SETTINGS, photos=8)
    assert recipe.rates_of_step(0) == pytest.approx([0.005, 0.01, 0.05, 0.1])
    assert recipe.rates_of_step(39)[0] == pytest.approx(0.005 * (2 / 41) ** 0.9)
    assert [group["momentum"] for group in recipe.optimizer.param_groups] == [0.9] * 4
    groups = parameter_groups(model, 5e-4)
    assert [len(group["params"]) for group in groups] == [43, 0, 3, 1]  # type: ignore[arg-type]
    assert [group["weight_decay"] for group in groups] == [5e-4, 0.0, 5e-4, 0.0]


def test_crops_come_as_the_released_augmentation_makes_them(model: DeepLabV1) -> None:
    photo, mask = np.full((20, 30, 3), 200, np.uint8), np.ones((20, 30), np.uint8)
    for colour in (0.0, 0.1):
        recipe = model.recipe(replace(SETTINGS, colour=colour), photos=8)
        crop, labels = recipe.augment(photo, mask, rng(3))
        assert crop.shape == (64, 64, 3) and crop.dtype == np.float32
        inside = labels == 1
        assert inside.any() and (labels[~inside] == 255).all()
        assert np.array_equal(crop[~inside], np.broadcast_to(model.mean.flatten().numpy(), crop[~inside].shape))
        assert (crop[inside] == 200).all() == (colour == 0)


def test_logits_are_averaged_before_the_softmax(model: DeepLabV1) -> None:
    model.eval()
    photo = rng(1).integers(0, 256, (1, 24, 32, 3)).astype(np.uint8)
    fused = fuse_views(model, photo, scales=(1.0, 1.5), flip=True)
    alone = [
        fuse_views(model, view, scales=(scale,), flip=False) for scale in (1.0, 1.5) for view in (photo, photo[:, :, ::-1])
    ]
    alone[1::2] = [logits.flip(-1) for logits in alone[1::2]]
    assert torch.allclose(fused, torch.stack(alone).mean(dim=0), atol=1e-4)
    found = predict_batch(model, photo, scales=(1.0, 1.5), flip=True)
    assert np.allclose(found, fused.softmax(dim=1).numpy(), atol=1e-6)


def test_only_its_own_encoder_is_built() -> None:
    with pytest.raises(ValueError, match="expected the encoder resnet38 of output stride 8, got 'mini' of 8"):
        build(encoder="mini", encoder_weights="none", num_classes=3, output_stride=8)
    with pytest.raises(ValueError, match="got 'resnet38' of 16"):
        build(encoder="resnet38", encoder_weights="none", num_classes=3, output_stride=16)


def test_mxnet_names_become_those_of_the_network() -> None:
    with torch.device("meta"):
        keys = [key for key in ResNet38().state_dict() if not key.endswith("num_batches_tracked")]
    named = {mxnet_name(key): torch.tensor([float(index)]) for index, key in enumerate(keys)}
    assert {"arg:conv1a_weight", "arg:bn2a_branch2a_gamma", "arg:res3b1_branch2b1_weight", "aux:bn7_moving_var"} <= set(named)
    found = rename_mxnet({**named, "arg:linear1000_weight": torch.zeros(1), "arg:linear1000_bias": torch.zeros(1)})
    assert {key: int(value) for key, value in found.items()} == {key: index for index, key in enumerate(keys)}
    bare = rename_mxnet({name.partition(":")[2]: value for name, value in named.items()})
    assert bare.keys() == found.keys()


@pytest.fixture
def slim(monkeypatch: pytest.MonkeyPatch) -> ResNet38:
    make_slim(monkeypatch)
    torch.manual_seed(1)
    return ResNet38()


@pytest.mark.parametrize("suffix", [".params", ".pth", ".safetensors"])
def test_weights_are_read_from_each_kind_of_file(slim: ResNet38, tmp_path: Path, suffix: str) -> None:
    file = write_weights(slim, tmp_path / f"weights{suffix}")
    other = ResNet38()
    load_resnet38(other, file)
    for key, tensor in slim.state_dict().items():
        assert torch.equal(other.state_dict()[key], tensor), key


def test_a_tensor_that_lacks_or_does_not_fit_is_named(slim: ResNet38, tmp_path: Path) -> None:
    file = write_weights(slim, tmp_path / "weights.params", without="b3_1.conv_branch2a.weight")
    with pytest.raises(WeakClipError, match=r"weights\.params does not fit .*: b3_1\.conv_branch2a\.weight is missing"):
        load_resnet38(ResNet38(), file)
    torch.save({**slim.state_dict(), "bn7.bias": torch.zeros(5)}, tmp_path / "wrong.pth")
    with pytest.raises(WeakClipError, match=r"bn7\.bias: expected \(16,\), got \(5,\)"):
        load_resnet38(ResNet38(), tmp_path / "wrong.pth")
