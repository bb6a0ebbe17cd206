"""Whether weights that libraries download are here or can be reached; no network is used."""

from pathlib import Path

import pytest

from weakclip import downloads
from weakclip.downloads import Download, cached, clip_download, encoder_download, unreachable

HUB = Download(repository="owner/name", files=("a.safetensors", "b.bin"))


def test_what_the_libraries_download_is_known() -> None:
    clip = clip_download("ViT-B-16-quickgelu", "openai")
    assert clip.repository == "timm/vit_base_patch16_clip_224.openai"
    assert clip.files[0] == "open_clip_model.safetensors"
    assert encoder_download("resnet50").repository.startswith("timm/resnet50")


def test_a_file_of_an_earlier_run_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    here = {"b.bin": "/cache/b.bin"}
    monkeypatch.setattr(downloads, "try_to_load_from_cache", lambda repository, name: here.get(name))
    assert cached(HUB) == Path("/cache/b.bin")
    here.clear()
    assert cached(HUB) is None
    assert cached(Download(repository="", files=(), url="file:///nowhere")) is None


def test_one_of_the_files_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def answer(url: str, *, timeout: float) -> None:
        asked.append(url.rpartition("/")[2])
        if "a.safetensors" in url:
            raise OSError("404")

    monkeypatch.setattr(downloads, "get_hf_file_metadata", answer)
    assert unreachable(HUB) == ""
    assert asked == ["a.safetensors", "b.bin"]


def test_the_first_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    reasons = iter(["no route\nto host", ""])

    def answer(url: str, *, timeout: float) -> None:
        raise OSError(next(reasons))

    monkeypatch.setattr(downloads, "get_hf_file_metadata", answer)
    assert unreachable(HUB) == "no route"


def test_an_address_is_asked_where_there_is_no_hub(tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    file.write_bytes(b"x")
    assert unreachable(Download(repository="", files=(), url=file.as_uri())) == ""
    assert unreachable(Download(repository="", files=(), url=file.with_name("other.pt").as_uri())) != ""
