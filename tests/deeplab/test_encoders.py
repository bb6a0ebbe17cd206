from pathlib import Path

import huggingface_hub
import pytest
import timm
import torch
from safetensors.torch import save_file

from weakclip.deeplab import encoders
from weakclip.deeplab.encoders import build_encoder, load_file_into, weights_file, weights_source
from weakclip.errors import WeakClipError
from weakclip.mini_encoder import MiniEncoder
from weakclip.weights import save_weights


def test_mini_maps_double_their_stride_and_keep_the_promised_channels() -> None:
    maps = MiniEncoder()(torch.zeros(1, 3, 64, 64))
    assert [tuple(cells.shape[1:]) for cells in maps] == [
        (c, 64 // s, 64 // s) for c, s in zip(MiniEncoder.out_channels, (1, 2, 4, 8, 16), strict=True)
    ]
    assert MiniEncoder(output_stride=8)(torch.zeros(1, 3, 64, 64))[-1].shape[-1] == 8


def test_mini_weights_come_with_the_project_in_half_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = MiniEncoder()
    state = {key: value.half() if value.is_floating_point() else value for key, value in trained.state_dict().items()}
    save_weights(tmp_path, "mini_encoder", state, {"encoder": "mini"})
    monkeypatch.setattr(encoders, "WEIGHTS_FOLDER", tmp_path)
    loaded = build_encoder("mini", "mini", 16).network.state_dict()
    assert all(torch.equal(loaded[key], state[key].to(loaded[key].dtype)) for key in state)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050"])
def test_a_file_of_a_whole_timm_network_fills_the_encoder(tmp_path: Path, name: str, suffix: str) -> None:
    source = timm.create_model(name, pretrained=False)
    file = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": {f"module.{key}": value for key, value in source.state_dict().items()}}, file)
    else:
        save_file(source.state_dict(), file)
    network = build_encoder(name, str(file), 16).network
    first = next(key for key in source.state_dict() if key.endswith("weight"))
    assert torch.equal(network.state_dict()[f"model.{first}"], source.state_dict()[first])


def test_a_missing_key_and_a_wrong_shape_are_named(tmp_path: Path) -> None:
    state = MiniEncoder().state_dict()
    key = "model.stem.conv1.conv.weight"
    save_file({**{k: v for k, v in state.items() if k != key}}, tmp_path / "lacking.safetensors")
    with pytest.raises(WeakClipError, match=f"lacking.safetensors.*{key} is missing"):
        load_file_into(MiniEncoder(), tmp_path / "lacking.safetensors")
    save_file({**state, key: torch.zeros(5, 3, 3, 3)}, tmp_path / "other.safetensors")
    with pytest.raises(WeakClipError, match=r"expected \(16, 3, 3, 3\), got \(5, 3, 3, 3\)"):
        load_file_into(MiniEncoder(), tmp_path / "other.safetensors")


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    torch.save({"weights": Path("/")}, tmp_path / "object.pth")
    with pytest.raises(WeakClipError, match=r"object.pth holds more than tensors"):
        load_file_into(MiniEncoder(), tmp_path / "object.pth")


def test_damaged_and_missing_files_are_named(tmp_path: Path) -> None:
    for name in ("half.safetensors", "half.pth"):
        (tmp_path / name).write_bytes(b"\x80\x02half")
        with pytest.raises(WeakClipError, match=name):
            load_file_into(MiniEncoder(), tmp_path / name)
    with pytest.raises(WeakClipError, match=r"none\.pth is missing"):
        load_file_into(MiniEncoder(), tmp_path / "none.pth")


def test_an_unknown_encoder_brings_the_nearest_names() -> None:
    with pytest.raises(WeakClipError, match="'resnet5' is not a model of timm") as caught:
        build_encoder("resnet5", "none", 16)
    assert "resnet50" in caught.value.hint


def test_an_encoder_that_does_not_fit_is_refused_by_name() -> None:
    with pytest.raises(WeakClipError, match="'mixer_s16_224' does not work as an encoder"):
        build_encoder("mixer_s16_224", "none", 16)
    with pytest.raises(WeakClipError, match="output_stride 8 does not fit 'vit_tiny_patch16_224', whose patches have 16 px"):
        build_encoder("vit_tiny_patch16_224", "none", 8)


def test_sources_are_noted(tmp_path: Path) -> None:
    file = tmp_path / "a.pth"
    file.write_bytes(b"x")
    assert weights_file("timm") is None and weights_file("none") is None
    assert weights_source("none") == {"name": "none"}
    assert weights_source(str(file))["sha256"].startswith("2d711642b7")


def test_weights_that_are_no_file_are_named_with_their_parameter() -> None:
    with pytest.raises(WeakClipError) as caught:
        weights_file("data/raw/resnet38.params")
    assert caught.value.problem == "deeplab.encoder_weights data/raw/resnet38.params is no file"


def test_without_a_network_it_is_said_what_is_missing_and_where_to_put_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeakClipError, match=r"the weights of 'resnet10t' cannot be fetched") as caught:
        build_encoder("resnet10t", "timm", 16)
    assert "model.safetensors of timm/resnet10t.c3_in1k" in caught.value.hint
    assert "put it in data/raw and set deeplab.encoder_weights to its path" in caught.value.hint
