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

    The contexts are shared by all phrases. Gradients pass through CLIP to the contexts; CLIP itself moves only if it is not
    frozen. With ``context_length`` 0 there are no contexts and the embeddings are those of the phrases alone.
    `forward` returns (T, E), not normalised.

    What comes before a phrase is the same for all, and a token of CLIP sees only what comes before it. So start and contexts
    are computed once, and the phrases follow in one sequence, each hidden from the others and at the positions that it would
    have alone: a sixth of the tokens that VOC's phrases have when each is padded to the longest.
    """

    ids: Tensor
    sequence: Tensor
    places: Tensor
    end: Tensor
    mask: Tensor

    def __init__(self, clip: Clip, phrases: Sequence[str], context_length: int) -> None:
        super().__init__()
        network = clip.network
        self.transformer, self.norm, self.projection = network.transformer, network.ln_final, network.text_projection
        self.token_embedding, self.positions = network.token_embedding, network.positional_embedding
        ids = tokenize(clip, phrases, room=context_length)  # (T, L)
        last = (ids == END_OF_TEXT).int().argmax(dim=1)
        column = torch.arange(ids.shape[1]).expand_as(ids)
        phrase = (column > 0) & (column <= last[:, None])
        owner = torch.cat([torch.full((1 + context_length,), -1), phrase.nonzero()[:, 0]])
        shared = owner < 0
        seen = (shared | (owner == owner[:, None])).tril()
        self.register_buffer("ids", ids, persistent=False)
        self.register_buffer("sequence", torch.cat([ids[:1, 0], ids[phrase]]), persistent=False)  # start, then the phrases
        places = torch.cat([torch.arange(1 + context_length), context_length + column[phrase]])
        self.register_buffer("places", places, persistent=False)
        self.register_buffer("end", context_length + last.cumsum(dim=0), persistent=False)
        self.register_buffer("mask", torch.zeros(seen.shape).masked_fill(~seen, -torch.inf), persistent=False)
        width = network.token_embedding.embedding_dim
        # CLIP's own token embeddings have about this deviation; contexts start like words.
        table = network.token_embedding.weight.detach()
        deviation = float(table[table.abs().sum(1) > 0].std())
        self.contexts = nn.Parameter(deviation * torch.randn(context_length, width))

    @property
    def fixed(self) -> bool:
        """Whether no training moves the embeddings: there are no contexts, and CLIP is frozen."""
        return not any(parameter.requires_grad and parameter.numel() for parameter in self.parameters())

    def release(self) -> None:
        """Gives the memory of a frozen CLIP's word embeddings back, but for the words of the phrases; that CLIP cannot encode
        other texts any more."""
        used, self.sequence = self.sequence.unique(return_inverse=True)
        self.token_embedding.weight = nn.Parameter(self.token_embedding.weight[used], requires_grad=False)

    def forward(self) -> Tensor:
        words = self.token_embedding(self.sequence)
        tokens = torch.cat([words[:1], self.contexts, words[1:]]) + self.positions[self.places]
        tokens = self.norm(self.transformer(tokens[None], attn_mask=self.mask)[0])
        embeddings: Tensor = tokens[self.end] @ self.projection
        return embeddings
