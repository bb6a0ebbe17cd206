"""Vision transformers of timm, made shallow, under the retraining decoder."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from tests.deeplab.test_retraining import CLASSES, SETTINGS, run, shapes  # noqa: F401
from weakclip import timm_vit
from weakclip.deeplab.deeplabv3plus import build
from weakclip.deeplab.encoders import build_encoder
from weakclip.deeplab.examples import Example
from weakclip.deeplab.layers import layer_factors, layers_of
from weakclip.deeplab.prediction import load_deeplab, predict_probabilities
from weakclip.errors import WeakClipError

EVA = "eva02_tiny_patch14_224"
DINO = "vit_small_patch14_dinov2"


@pytest.fixture(autouse=True)
def two_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks of timm with two of their twelve blocks."""
    create = timm.create_model

    def shallow(name: str, **options: object) -> object:
        return create(name, **({"depth": 2} if timm_vit.is_vision_transformer(name) else {}), **options)

    monkeypatch.setattr(timm_vit.timm, "create_model", shallow)


@pytest.mark.parametrize(
    ("name", "patch", "stride"), [(EVA, 14, 16), ("vit_tiny_patch16_224", 16, 16), ("vit_small_patch8_224", 8, 8)]
)
def test_logits_have_a_quarter_of_a_patch_as_their_cell(name: str, patch: int, stride: int) -> None:
    model = build(encoder=name, encoder_weights="none", num_classes=3, output_stride=stride).eval()
    assert model.multiple == patch
    cells = {16: 4, 8: 2}[stride]
    with torch.inference_mode():
        assert model(torch.zeros(1, 3, 2 * patch, 3 * patch)).shape == (1, 3, 2 * cells, 3 * cells)


def test_a_file_in_the_authors_names_and_of_another_grid_fills_the_encoder(tmp_path: Path) -> None:
    source = timm.create_model(DINO, img_size=56, num_classes=0)
    state = {key.replace("reg_token", "register_tokens"): value for key, value in source.state_dict().items()}
    torch.save({**state, "mask_token": torch.zeros(1, 384)}, tmp_path / "dinov2.pth")
    network = build_encoder(DINO, str(tmp_path / "dinov2.pth"), 16).network.network.model
    assert torch.equal(network.blocks[1].mlp.fc1.weight, source.blocks[1].mlp.fc1.weight)
    assert source.pos_embed.shape[1] == 1 + 16 and network.pos_embed.shape[1] == 1 + 37**2


def test_a_file_of_another_network_is_refused(tmp_path: Path) -> None:
    save_file(timm.create_model("vit_tiny_patch16_224").state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(WeakClipError, match=r"other\.safetensors"):
        build_encoder(DINO, str(tmp_path / "other.safetensors"), 16)


def test_blocks_are_layers_and_the_embedding_is_the_first() -> None:
    network = build_encoder(EVA, "none", 16).network
    layers = layers_of(network, EVA)
    names = {id(parameter): name.removeprefix("network.model.") for name, parameter in network.named_parameters()}
    assert [sorted({names[id(p)].partition(".")[0] for p in layer}) for layer in layers] == [
        ["cls_token", "patch_embed", "pos_embed"],
        ["blocks"],
        ["blocks"],
    ]
    assert layer_factors(3, 0.5) == [0.25, 0.5, 1.0]


@pytest.mark.parametrize(
    ("name", "layers"), [("resnet18", 5), ("convnext_atto", 5), ("mobilenetv3_small_050", 7), ("regnetx_002", 5)]
)
def test_stages_of_convolutional_networks_are_layers(name: str, layers: int) -> None:
    network = build_encoder(name, "none", 16).network
    found = layers_of(network, name)
    assert len(found) == layers and all(found)
    assert sum(map(len, found)) == len(list(network.parameters()))


def test_a_transformer_is_retrained_and_predicts_photos_of_any_size(shapes: tuple[Example, ...], tmp_path: Path) -> None:  # noqa: F811
    settings = replace(SETTINGS, encoder=EVA, iterations=2, crop_size=56, layer_decay=0.75, ema=0.99)
    run(settings, shapes, tmp_path / "run")
    model = load_deeplab(tmp_path / "run" / "deeplab")
    photo = np.zeros((33, 45, 3), np.uint8)
    probabilities = predict_probabilities(model, photo, scales=(1.0, 1.5), flip=True)
    assert probabilities.shape == (CLASSES.num_classes, 33, 45)
    assert np.allclose(probabilities.sum(axis=0), 1, atol=1e-5)
