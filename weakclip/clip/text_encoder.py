"""CLIP's text encoder with learnable context tokens (CoOp, Zhou et al. 2022; WeakCLIP section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from weakclip.clip.model import Clip
from weakclip.errors import WeakClipError

END_OF_TEXT = 49407


def tokenize(clip: Clip, texts: Sequence[str], room: int = 0) -> Tensor:
    """Token ids (T, L), L the longest text; texts that leave no ``room`` for contexts are refused, not cut."""
    ids = [clip.tokenizer.encode(text) for text in texts]
    longest = max(len(pieces) for pieces in ids) + 2
    if longest + room > clip.context_length:
        text = max(texts, key=lambda phrase: len(clip.tokenizer.encode(phrase)))
        raise WeakClipError(
            f'"{text}" has {longest} tokens; with {room} contexts {clip.model} takes {clip.context_length}',
            "shorten the class name or its synonyms in classes.txt, or lower weakclip.context_length",
        )
    rows = torch.zeros(len(texts), longest, dtype=torch.long)
    for row, pieces in zip(rows, ids, strict=True):
        row[: len(pieces) + 2] = torch.tensor([clip.tokenizer.sot_token_id, *pieces, clip.tokenizer.eot_token_id])
    return rows


@torch.inference_mode()
def encode_texts(clip: Clip, texts: Sequence[str]) -> Tensor:
    """Unit text embeddings (T, E)."""
    ids = tokenize(clip, texts)
    padded = torch.zeros(len(texts), clip.context_length, dtype=torch.long)
    padded[:, : ids.shape[1]] = ids
    device = clip.network.text_projection.device
    return functional.normalize(clip.network.encode_text(padded.to(device)), dim=-1).clone()


class TextEncoder(nn.Module):
    """Text embeddings of phrases, with ``context_length`` learnable vectors between the start token and the phrase.

    The contexts are shared by all phrases. CLIP itself stays frozen; gradients pass through it to the contexts. With
    ``context_length`` 0 nothing is learnable and the embeddings are those of ``a photo of a <phrase>``.
    `forward` returns (T, E), not normalised.
    """

    token_embeddings: Tensor
    end: Tensor
    positions: Tensor
    mask: Tensor

    def __init__(self, clip: Clip, phrases: Sequence[str], context_length: int) -> None:
        super().__init__()
        network = clip.network
        self.transformer, self.norm, self.projection = network.transformer, network.ln_final, network.text_projection
        ids = tokenize(clip, phrases, room=context_length)
        self.register_buffer("token_embeddings", network.token_embedding(ids).detach().clone(), persistent=False)  # (T, L, C)
        self.register_buffer("end", (ids == END_OF_TEXT).int().argmax(dim=1) + context_length, persistent=False)
        length = ids.shape[1] + context_length
        self.register_buffer("positions", network.positional_embedding[:length].detach().clone(), persistent=False)
        self.register_buffer("mask", network.attn_mask[:length, :length].clone(), persistent=False)
        width = self.token_embeddings.shape[-1]
        # CLIP's own token embeddings have about this deviation; contexts start like words.
        deviation = float(network.token_embedding.weight[network.token_embedding.weight.abs().sum(1) > 0].std())
        self.contexts = nn.Parameter(deviation * torch.randn(context_length, width))

    def forward(self) -> Tensor:
        start, rest = self.token_embeddings[:, :1], self.token_embeddings[:, 1:]
        contexts = self.contexts.expand(len(start), -1, -1)
        tokens = torch.cat([start, contexts, rest], dim=1) + self.positions
        tokens = self.norm(self.transformer(tokens, attn_mask=self.mask))
        embeddings: Tensor = tokens[torch.arange(len(tokens)), self.end] @ self.projection
        return embeddings
