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


def padded(ids: torch.Tensor, length: int) -> list[list[int]]:
    return [[*row, *[0] * (length - len(row))] for row in ids.tolist()]


@pytest.mark.parametrize("case", marked(cases("tokens")))
def test_tokens(case: Case) -> None:
    stored = read_json(case)
    for name in ("voc", "coco"):
        length = stored[name]["context_length"]
        clip = clip_of_length(length)
        assert padded(tokenize(clip, stored[name]["classes"]), length) == stored[name]["ids"]
        with pytest.raises(WeakClipError, match=f"takes {length}"):
            tokenize(clip, ["one two three four five six"])
    length = stored["general"]["context_length"]
    clip = clip_of_length(length)
    for text, ids in stored["general"]["ids"].items():
        assert padded(tokenize(clip, [text]), length) == [ids]
    tokenizer = open_clip.SimpleTokenizer()
    ends = (tokenizer.sot_token_id, tokenizer.eot_token_id, len(tokenizer.encoder))
    assert ends == (stored["sot"], stored["eot"], stored["vocab_size"])


@pytest.mark.parametrize("case", marked(cases("text")))
def test_text_embeddings(case: Case) -> None:
    stored, network = golden().Golden(case.path), load_network(case)
    encoder = network.model.text_encoder
    stored.check("tokens", np.array(padded(encoder.ids, config(case)["context_length"])), atol=0, rtol=0)
    with torch.inference_mode():
        stored.check("text_embeddings", encoder()[None].numpy())
