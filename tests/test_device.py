import pytest
import torch

from weakclip.device import device
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
