"""Tokens of class names, and their embeddings."""

import numpy as np
import open_clip
import pytest
import torch

from tests.parity.cases import Case, cases, golden, marked, read_json
from tests.parity.networks import config, load_network
from weakclip.clip.bare import ClipArchitecture, bare_clip
from weakclip.clip.model import Clip
from weakclip.clip.text_encoder import tokenize
from weakclip.errors import WeakClipError


def clip_of_length(length: int) -> Clip:
    """The smallest CLIP that reads texts of so many tokens."""
    sizes = dict.fromkeys(("embedding", "width", "heads", "layers", "text_width", "text_heads", "text_layers"), 1)
    return bare_clip(ClipArchitecture(patch=16, image_size=16, context_length=length, **sizes), "none")


def padded(ids: torch.Tensor, length: int, pad: int = 0) -> list[list[int]]:
    return [[*row, *[pad] * (length - len(row))] for row in ids.tolist()]


@pytest.mark.parametrize("case", marked(cases("tokens")))
def test_tokens(case: Case) -> None:
    stored = read_json(case)
    lists = [entry for entry in stored.values() if isinstance(entry, dict)]  # of class names, or of texts with their ids
    assert lists
    for entry in lists:
        length = entry["context_length"]
        clip = clip_of_length(length)
        texts, ids = (entry["classes"], entry["ids"]) if "classes" in entry else zip(*entry["ids"].items(), strict=True)
        for text, expected in zip(texts, ids, strict=True):
            assert padded(tokenize(clip, [text]), length, stored["pad"]) == [expected], text
        assert padded(tokenize(clip, list(texts)), length, stored["pad"]) == list(ids)
        with pytest.raises(WeakClipError, match=f"takes {length}"):
            tokenize(clip, [" ".join(["one"] * (length - 1))])  # one too many, with start and end
    tokenizer = open_clip.SimpleTokenizer()
    ends = (tokenizer.sot_token_id, tokenizer.eot_token_id, len(tokenizer.encoder))
    assert ends == (stored["sot"], stored["eot"], stored["vocab_size"])


@pytest.mark.parametrize("case", marked(cases("text")))
def test_text_embeddings(case: Case) -> None:
    stored, network = golden().Golden(case.path), load_network(case)
    encoder = network.model.text_encoder
    stored.check("tokens", np.array(padded(encoder.ids, config(case)["context_length"])), atol=0, rtol=0)
    with torch.inference_mode():
        stored.check("text_embeddings", encoder()[None].numpy(), **case.tolerance)
