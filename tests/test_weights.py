"""Weights and their cards."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from weakclip.errors import WeakClipError
from weakclip.sealed import sealed, unsealed
from weakclip.weights import load_into, load_weights, save_weights


def test_weights_and_card_come_back(tmp_path: Path) -> None:
    state = {"b": torch.arange(3), "a": torch.rand(2, 2)}
    save_weights(tmp_path, "net", state, {"kind": "test"})
    loaded, card = load_weights(tmp_path, "net")
    assert card["kind"] == "test"
    assert loaded.keys() == state.keys() and all(torch.equal(loaded[key], state[key]) for key in state)


def test_same_tensors_give_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    a, b = torch.rand(3), torch.rand(4)
    save_weights(tmp_path / "1", "net", {"a": a, "b": b}, {})
    save_weights(tmp_path / "2", "net", {"b": b, "a": a}, {})
    for name in ("net.safetensors", "net.json"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(WeakClipError, match=r"net\.safetensors is missing"):
        load_weights(tmp_path, "net")


@pytest.mark.parametrize("damage", [lambda data: data[:-4], lambda data: data[:-1] + bytes([data[-1] ^ 1]), lambda data: b""])
def test_damaged_weights_are_named(tmp_path: Path, damage: object) -> None:
    save_weights(tmp_path, "net", {"a": torch.rand(8)}, {})
    path = tmp_path / "net.safetensors"
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(WeakClipError, match=r"net\.safetensors"):
        load_weights(tmp_path, "net")


def test_a_card_of_other_weights_is_refused(tmp_path: Path) -> None:
    save_weights(tmp_path, "net", {"a": torch.rand(8)}, {})
    card = unsealed((tmp_path / "net.json").read_bytes())
    (tmp_path / "net.json").write_text(json.dumps(sealed(card | {"weights_sha256": "0" * 64})))
    with pytest.raises(WeakClipError, match="does not belong to"):
        load_weights(tmp_path, "net")


def test_a_card_of_lists_in_lists_without_end_is_refused_by_name(tmp_path: Path) -> None:
    save_weights(tmp_path, "net", {"a": torch.rand(8)}, {})
    (tmp_path / "net.json").write_text("[" * 100_000)
    with pytest.raises(WeakClipError, match=r"net\.json is damaged"):
        load_weights(tmp_path, "net")


def test_a_card_of_another_format_is_refused_by_name(tmp_path: Path) -> None:
    save_weights(tmp_path, "net", {"a": torch.rand(8)}, {"format": 2})
    with pytest.raises(WeakClipError, match=r"net\.json has format 2, this version reads 1"):
        load_weights(tmp_path, "net")


def test_every_key_that_does_not_fit_is_named() -> None:
    with pytest.raises(WeakClipError, match=r"bias is missing; other is not part.*weight: expected \(2, 3\), got \(3, 2\)"):
        load_into(nn.Linear(3, 2), {"weight": torch.rand(3, 2), "other": torch.rand(1)}, "x")


def test_half_precision_is_loaded_into_full() -> None:
    layer = nn.Linear(2, 2)
    load_into(layer, {"weight": torch.ones(2, 2).half(), "bias": torch.zeros(2).half()}, "x")
    assert layer.weight.dtype == torch.float32 and layer.weight.sum() == 4
