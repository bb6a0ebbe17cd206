import pytest
import torch

from weakclip.device import device, from_host, to_host
from weakclip.errors import WeakClipError


def test_the_device_is_the_named_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEAKCLIP_DEVICE", "cpu")
    assert device() == torch.device("cpu")


@pytest.mark.parametrize("unset", [True, False])
def test_without_a_name_a_graphics_card_is_taken_where_there_is_one(monkeypatch: pytest.MonkeyPatch, unset: bool) -> None:
    monkeypatch.setenv("WEAKCLIP_DEVICE", "")
    if unset:
        monkeypatch.delenv("WEAKCLIP_DEVICE")
    assert device().type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:99"])
def test_a_device_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("WEAKCLIP_DEVICE", name)
    with pytest.raises(WeakClipError, match=f"WEAKCLIP_DEVICE={name} cannot be used") as caught:
        device()
    assert "\n" not in caught.value.problem


def test_tensors_come_to_the_device_and_back_as_they_are() -> None:
    tensor = torch.arange(24.0).reshape(2, 3, 4).permute(0, 2, 1)
    there = from_host(tensor, device())
    assert there.device.type == device().type and torch.equal(to_host(there), tensor)
    assert from_host(tensor, torch.device("meta")).device.type == "meta"
