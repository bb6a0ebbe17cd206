"""The second frozen encoder: its grid, the pair with CLIP, and its way through cache, training and mask generation."""

import json
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import timm
import torch
from torch import nn

from tests.conftest import change_params
from weakclip import second_encoder, timm_vit
from weakclip.clip.image_encoder import ImageEncoder
from weakclip.clip.model import load_clip
from weakclip.errors import WeakClipError
from weakclip.features.blocks import SECOND, block_widths
from weakclip.features.size import cache_size
from weakclip.features.store import FeatureStore
from weakclip.features.token_formats import FORMATS
from weakclip.mini_encoder import MiniEncoder
from weakclip.network.second_encoder import SecondProjection
from weakclip.params import load
from weakclip.second_encoder import EncoderPair, load_same_second_encoder, load_second_encoder, paired

DINO = "vit_small_patch14_dinov2"


@pytest.fixture
def shallow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks of timm with two blocks."""
    create = timm.create_model
    monkeypatch.setattr(timm_vit.timm, "create_model", lambda name, **options: create(name, depth=2, **options))


def noise(height: int, width: int) -> torch.Tensor:
    return torch.randint(0, 256, (2, 3, height, width), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def test_without_a_network_it_is_said_what_is_missing_and_where_to_put_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeakClipError, match=f"the weights of '{DINO}' cannot be fetched") as caught:
        load_second_encoder(DINO, "timm")
    assert "put it in data/raw and set features.second_weights to its path" in caught.value.hint


def test_there_is_none_by_default() -> None:
    encoder = ImageEncoder(load_clip("mini", "mini"), [3])
    assert load_second_encoder("none", "none") is None and paired(encoder, None) is encoder
    assert load_same_second_encoder(None, "data/features") is None


def test_the_mini_stand_in_gives_the_last_map_of_the_shipped_encoder() -> None:
    second = load_second_encoder("mini", "mini")
    assert second is not None and (second.patch, second.width) == (8, MiniEncoder.out_channels[-1])
    images = noise(32, 48)
    with torch.inference_mode():
        tokens = second(images, (4, 6))
        maps = second.network((images.float() - second.mean) / second.std)[-1]
    assert torch.equal(tokens, maps.flatten(2).transpose(1, 2))
    assert not any(parameter.requires_grad for parameter in second.parameters())


def test_photos_are_resized_so_that_patches_fall_on_those_of_clip(shallow: None) -> None:
    second = load_second_encoder(DINO, "none")
    assert second is not None and second.patch == 14
    seen: list[torch.Size] = []
    second.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    pair = EncoderPair(ImageEncoder(load_clip("mini", "mini"), [1, 3]), second)
    with torch.inference_mode():
        first, last, others = pair(noise(34, 48))  # two rows of pixels are beyond the last patch
    assert seen == [torch.Size([2, 3, 4 * 14, 6 * 14])]
    assert others.shape == (2, 1 + 24, 384) and first.shape == last.shape == (2, 1 + 24, pair.width)
    torch.testing.assert_close(others[:, 0], others[:, 1:].mean(dim=1))
    assert pair.blocks == (1, 3, SECOND) and pair.attributes["second"] == second.described


def test_weights_come_from_a_file_and_others_under_its_name_are_refused(shallow: None, tmp_path: Path) -> None:
    file = tmp_path / "dinov2.pth"
    torch.save(timm.create_model(DINO, num_classes=0).state_dict(), file)
    second = load_second_encoder(DINO, str(file))
    assert second is not None
    again = load_same_second_encoder(second.described, "data/features")
    assert again is not None and again.described == second.described
    torch.save(timm.create_model(DINO, num_classes=0).state_dict(), file)
    with pytest.raises(WeakClipError, match=f"data/features was made with other weights of {DINO}"):
        load_same_second_encoder(second.described, "data/features")


def test_an_unknown_encoder_is_refused_with_its_parameter() -> None:
    with pytest.raises(WeakClipError, match=r"features\.second_encoder 'resnet18' is not a plain vision transformer"):
        load_second_encoder("resnet18", "timm")
    with pytest.raises(WeakClipError, match=r"features\.second_encoder 'vit_tini' is not a model of timm"):
        load_second_encoder("vit_tini", "timm")


def test_its_tokens_count_in_the_forecast_of_the_size() -> None:
    widths = block_widths((3, SECOND), 32, {"second": {"width": 160}})
    assert widths == {3: 32, SECOND: 160}
    from tests.features.test_cache import recipe
    from weakclip.datasets.index import Record

    record = Record(image_id="a", photo="a", height=32, width=32, split="train", tags=(1,), mask=None)
    alone, both = (cache_size([record], recipe(), FORMATS["float16"], widths_of).n_bytes for widths_of in ({3: 32}, widths))
    assert both == alone * (32 + 160) // 32


def test_the_projection_leaves_the_first_token_out() -> None:
    projection = SecondProjection(5, 3)
    tokens = torch.randn(2, 1 + 6, 5)
    maps = projection(tokens, 2, 3)
    assert maps.shape == (2, 3, 2, 3)
    assert torch.equal(maps, projection(torch.cat([torch.zeros(2, 1, 5), tokens[:, 1:]], dim=1), 2, 3))
    torch.testing.assert_close(maps[1, :, 1, 0], projection.project(tokens[1, 1 + 3]))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"features.second_encoder": "mini"},
            "is 'none': that of features.second_encoder mini is mini",
        ),
        ({"features.second_weights": "timm"}, "features.second_weights is 'timm'"),
        ({"features.second_encoder": DINO}, "that of vit_small_patch14_dinov2 is timm or a file"),
        (
            {"features.second_encoder": "mini", "features.second_weights": "mini", "weakclip.variant": "published"},
            "weakclip.variant published has none",
        ),
    ],
)
def test_parameters_that_do_not_fit_are_refused(workspace: Path, changes: dict[str, object], problem: str) -> None:
    change_params(workspace / "params.yaml", changes)
    with pytest.raises(WeakClipError, match=problem):
        load(workspace / "params.yaml")


@pytest.mark.parametrize("views", [1, 0])
def test_the_mini_stand_in_goes_through_the_stages(workspace: Path, views: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from stages import cache_features, generate_masks, train_weakclip

    second = {"features.second_encoder": "mini", "features.second_weights": "mini", "features.views": views}
    change_params(workspace / "params.yaml", second)
    cache_features.main()
    store = FeatureStore(Path("data/features"))
    assert store.all_blocks == (*store.blocks, SECOND) and SECOND not in store.blocks
    row = store.read(store.whole_rows(store.image_ids[0])[0], store.all_blocks)
    assert row[SECOND].shape == (row[store.blocks[0]].shape[0], MiniEncoder.out_channels[-1])
    train_weakclip.main()
    card = json.loads(Path("data/weakclip/weakclip.json").read_text())
    assert card["second"]["name"] == "mini" and "second" not in card["sizes"]
    if views:
        generate_masks.main()
        assert len(list(Path("data/masks/pseudo").glob("*.png"))) == 12

    other = load_second_encoder("mini", "mini")
    assert other is not None
    other.described["weights_hash"] = "0"
    monkeypatch.setattr(second_encoder, "load_second_encoder", lambda *_: other)
    with pytest.raises(WeakClipError, match="data/weakclip was made with other weights of mini"):
        generate_masks.main()


def test_released_memory_cannot_encode(shallow: None) -> None:
    second = load_second_encoder(DINO, "none")
    assert second is not None
    pair = EncoderPair(ImageEncoder(load_clip("mini", "mini"), [3]), second)
    pair.release()
    assert isinstance(pair.second.network, nn.Identity)
    with pytest.raises(ValueError, match="whose blocks are still there"):
        pair(noise(16, 16))
    assert np.isfinite(pair.mean.numpy()).all()
