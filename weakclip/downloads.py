"""Pretrained weights that libraries download by themselves: whether they are on this machine already, or can be reached."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import open_clip
import timm
from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache

SECONDS: Final = 5.0  # to wait for an answer
OPEN_CLIP_FILES: Final = (open_clip.constants.HF_SAFE_WEIGHTS_NAME, open_clip.constants.HF_WEIGHTS_NAME)
TIMM_FILES: Final = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True, kw_only=True)
class Download:
    """Weights on a hub, ``repository`` and the ``files`` to try in their order, or behind the address ``url``."""

    repository: str
    files: tuple[str, ...]
    url: str = ""

    @property
    def words(self) -> str:
        """What to look for by hand."""
        return f"{self.files[0]} of {self.repository} on the Hugging Face hub" if self.repository else self.url


def clip_download(model: str, tag: str) -> Download:
    """What open_clip downloads for a pretrained tag."""
    config = open_clip.get_pretrained_cfg(model, tag)
    repository, _, file = str(config.get("hf_hub", "")).rpartition("/")
    return Download(repository=repository, files=(file,) if file else OPEN_CLIP_FILES, url=str(config.get("url", "")))


def encoder_download(encoder: str) -> Download:
    """What timm downloads for an encoder."""
    config = timm.get_pretrained_cfg(encoder)
    repository = str(getattr(config, "hf_hub_id", None) or "")
    return Download(repository=repository, files=TIMM_FILES, url=str(getattr(config, "url", None) or ""))


def cached(download: Download) -> Path | None:
    """The file, where an earlier run has downloaded it."""
    for name in download.files if download.repository else ():
        found = try_to_load_from_cache(download.repository, name)
        if isinstance(found, str):
            return Path(found)
    return None


def unreachable(download: Download) -> str:
    """Why the weights cannot be downloaded, in a few words; empty where they can."""
    questions: Sequence[Callable[[], object]] = [
        lambda name=name: get_hf_file_metadata(hf_hub_url(download.repository, name), timeout=SECONDS)  # type: ignore[misc]
        for name in (download.files if download.repository else ())
    ]
    if not questions:
        request = urllib.request.Request(download.url, method="HEAD")
        questions = [lambda: urllib.request.urlopen(request, timeout=SECONDS).close()]
    reason = ""
    for ask in questions:
        try:
            ask()
        except Exception as error:  # the network below raises many kinds
            reason = reason or next(iter(str(error).splitlines()), "") or type(error).__name__
        else:
            return ""
    return reason
