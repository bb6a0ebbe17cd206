import pytest
import torch

from weakclip.deeplab.deeplabv3plus import DeepLabV3Plus
from weakclip.deeplab.model import build_deeplab


def tiny(encoder: str = "mini", output_stride: int = 16, num_classes: int = 4) -> DeepLabV3Plus:
    torch.manual_seed(0)
    model = build_deeplab(
        network="deeplabv3plus", encoder=encoder, encoder_weights="none", num_classes=num_classes, output_stride=output_stride
    )
    assert isinstance(model, DeepLabV3Plus)
    return model


@pytest.mark.parametrize(("encoder", "stride"), [("mini", 2), ("resnet18", 4), ("mobilenetv3_small_050", 4)])
@pytest.mark.parametrize("output_stride", [8, 16])
def test_logits_are_fine_and_every_parameter_learns(encoder: str, stride: int, output_stride: int) -> None:
    model = tiny(encoder, output_stride)
    logits = model(torch.rand(2, 3, 64, 96) * 255)
    assert logits.shape == (2, 4, 64 // stride, 96 // stride)
    logits.square().mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_the_mini_network_is_small() -> None:
    assert sum(parameter.numel() for parameter in tiny().parameters()) < 1_500_000


def test_sides_that_do_not_fit_the_stride_are_refused() -> None:
    with pytest.raises(ValueError, match=r"multiples of 16, got 64 x 90"):
        tiny()(torch.zeros(1, 3, 64, 90))


def test_photos_are_normalised_inside() -> None:
    model = tiny().eval()
    assert model.fill == (124, 116, 104)
    grey = model.mean.expand(3, 32, 32)[None]
    features = model.encoder(torch.zeros(1, 3, 32, 32))
    with torch.no_grad():
        assert torch.equal(model(grey), model.head(model.decoder(features), features))


def test_fill_follows_the_encoder() -> None:
    assert tiny("mobilenetv3_small_050").fill == (124, 116, 104)


def test_both_output_strides_share_their_weights() -> None:
    fine, coarse = tiny(output_stride=8), tiny(output_stride=16)
    coarse.load_state_dict(fine.state_dict())


@pytest.mark.parametrize(("network", "stride"), [("unet", 16), ("deeplabv3plus", 32)])
def test_unknown_values_are_programmer_mistakes(network: str, stride: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        build_deeplab(network=network, encoder="mini", encoder_weights="none", num_classes=2, output_stride=stride)


def test_enlarged_constant_logits_stay_constant() -> None:
    assert torch.allclose(tiny().enlarge(torch.full((1, 2, 3, 4), 0.7), 11, 13), torch.tensor(0.7))
