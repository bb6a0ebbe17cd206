"""Loading CLIP from its true file formats, made here with random weights."""

from pathlib import Path

import huggingface_hub
import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from weakclip.clip.model import hash_tensors, load_clip, load_same_clip
from weakclip.errors import WeakClipError

SMALL = {
    "embed_dim": 32,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module", autouse=True)
def small_models(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Registers two small architectures with open_clip, with and without QuickGELU."""
    import json

    folder = tmp_path_factory.mktemp("configs")
    (folder / "Tiny-16-quickgelu.json").write_text(json.dumps(SMALL))
    (folder / "Tiny-16.json").write_text(json.dumps(SMALL | {"quick_gelu": False}))
    open_clip.add_model_config(folder)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return open_clip.create_model("Tiny-16-quickgelu").eval()


def test_the_mini_clip_loads_and_is_frozen() -> None:
    clip = load_clip("mini", "mini")
    assert (clip.patch, clip.width, clip.embedding, clip.depth) == (8, 128, 128, 5)
    assert not any(parameter.requires_grad for parameter in clip.network.parameters())


@pytest.mark.parametrize("ending", ["pt", "safetensors"])
def test_weights_load_from_a_file(tmp_path: Path, network: nn.Module, ending: str) -> None:
    path = tmp_path / f"weights.{ending}"
    state = network.state_dict()
    torch.save(state, path) if ending == "pt" else save_file({key: value.contiguous() for key, value in state.items()}, path)
    clip = load_clip("Tiny-16-quickgelu", str(path))
    assert clip.weights_hash == hash_tensors(state)


class Archive(nn.Module):
    """As OpenAI ships CLIP: a scripted module whose state dictionary has three extra numbers."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        for name in ("input_resolution", "context_length", "vocab_size"):
            self.register_buffer(name, torch.tensor(1))
        self.parts = nn.ModuleDict()
        for key, value in network.state_dict().items():
            place: nn.Module = self
            *path, last = key.split(".")
            for name in path:
                if not hasattr(place, name):
                    place.add_module(name, nn.Module())
                place = getattr(place, name)
            place.register_buffer(last, value.half())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def archive(network: nn.Module, path: Path) -> Path:
    torch.jit.save(torch.jit.script(Archive(network)), path)  # type: ignore[no-untyped-call]
    return path


@pytest.mark.filterwarnings("ignore:.*torch.jit.*")
def test_openai_archives_load(tmp_path: Path, network: nn.Module) -> None:
    clip = load_clip("Tiny-16-quickgelu", str(archive(network, tmp_path / "openai.pt")))
    expected, got = network.state_dict(), clip.network.state_dict()
    assert all(torch.equal(expected[key].half().float(), got[key]) for key in expected)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*")
def test_openai_weights_without_quickgelu_are_refused(tmp_path: Path, network: nn.Module) -> None:
    with pytest.raises(WeakClipError, match="need QuickGELU") as caught:
        load_clip("Tiny-16", str(archive(network, tmp_path / "openai.pt")))
    assert "Tiny-16-quickgelu" in caught.value.hint


@pytest.mark.parametrize(
    ("model", "weights", "problem"),
    [
        ("mini", "openai", "do not belong together"),
        ("ViT-B-61", "openai", "not an open_clip model"),
        ("RN50", "openai", "not a plain vision transformer"),
        ("roberta-ViT-B-32", "weights.pt", "tokenizer that is not open_clip's own"),
        ("ViT-H-14-CLIPA", "datacomp1b", "tokenizer that is not open_clip's own"),
        ("ViT-B-16-quickgelu", "opnai", "neither a file nor a pretrained tag"),
        ("ViT-B-16-quickgelu", "weights/missing.pt", "is missing"),
    ],
)
def test_what_cannot_be_loaded_is_said(model: str, weights: str, problem: str) -> None:
    with pytest.raises(WeakClipError, match=problem):
        load_clip(model, weights)


def test_without_a_network_it_is_said_what_is_missing_and_where_to_put_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeakClipError, match=r"pretrained weights openai of ViT-B-32-quickgelu cannot be loaded") as caught:
        load_clip("ViT-B-32-quickgelu", "openai")
    assert "open_clip_model.safetensors of timm/vit_base_patch32_clip_224.openai" in caught.value.hint
    assert "put it in data/raw and set clip.weights to its path" in caught.value.hint


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.pt"
    path.write_bytes(b"not weights")
    with pytest.raises(WeakClipError, match=r"broken\.pt cannot be loaded"):
        load_clip("Tiny-16-quickgelu", str(path))


def test_other_weights_under_the_same_name_are_refused() -> None:
    with pytest.raises(WeakClipError, match="made with other weights"):
        load_same_clip("mini", "mini", "0" * 64, "data/features")
