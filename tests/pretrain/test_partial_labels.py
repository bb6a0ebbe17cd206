"""Losses of captions by hand."""

import math

import pytest
import torch

from weakclip.pretrain.partial_labels import token_losses


def test_a_token_may_be_any_of_the_named_words() -> None:
    # Two tokens over three words with shares 0.5, 0.25, 0.25; the caption names the first two.
    logits = torch.tensor([[[0.5, 0.25, 0.25]] * 2]).log()
    token, presence = token_losses(logits, torch.tensor([[True, True, False]]), presence_share=0.5)
    assert token.item() == pytest.approx(-math.log(0.75))
    assert presence.item() == pytest.approx(-(math.log(0.5) + math.log(0.25)) / 2)


def test_presence_looks_at_the_best_tokens_only() -> None:
    logits = torch.tensor([[[0.9, 0.1], [0.1, 0.9], [0.1, 0.9], [0.1, 0.9]]]).log()
    _, presence = token_losses(logits, torch.tensor([[True, False]]), presence_share=0.25)
    assert presence.item() == pytest.approx(-math.log(0.9))
