"""Calibrated patch features of a frozen CLIP: a second path through its last blocks, in which patches look at their likes.

The last blocks of CLIP gather what the class token needs, and their patches lose what they themselves show. So beside the
normal path runs a second one without norms and MLPs: it starts from the tokens before the last blocks and adds, block by
block, the normal path's values weighted by how much queries are like queries, keys like keys and values like values (ExCEL,
Yang et al. 2025, section 3.3, "static visual calibration"; zwyang6/ExCEL; after CLIP Surgery, Li et al. 2023). Nothing is
trained, and only the tokens before the last blocks are needed. Cost: three products of n x n in each of these blocks beside
their own work.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from weakclip.clip.attention import attention_weights, queries_keys_values
from weakclip.clip.model import Clip


def self_similarity(parts: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """How much tokens are alike by their queries, keys and values, each (B, heads, N, d): (B, N, N), **summed** over the
    heads, so that all of them weigh their values alike; rows sum to the number of heads."""
    return sum(attention_weights(part, part) for part in parts).sum(dim=1) / len(parts)  # type: ignore[union-attr]


class CalibratedEncoder(nn.Module):
    """The last ``count`` blocks of a CLIP with the calibrated path beside them; with 0 its tokens as they are.

    `forward` takes tokens (B, 1 + n, C), the output of the block ``after`` (from 0; the one before these blocks, or earlier),
    and returns visual embeddings (B, 1 + n, E): the class token's of the normal path, then the calibrated patches.
    """

    def __init__(self, clip: Clip, count: int, after: int) -> None:
        super().__init__()
        if not 0 <= after <= clip.depth - 1 - count:
            raise ValueError(f"expected a block before the last {count} of {clip.depth}, got {after}")
        self.visual = clip.network.visual
        blocks = self.visual.transformer.resblocks
        self.before, self.blocks = blocks[after + 1 : clip.depth - count], blocks[clip.depth - count :]

    @torch.no_grad()
    def forward(self, tokens: Tensor, learned: Tensor | None = None) -> Tensor:
        """``learned`` (B, n, n): an affinity between patches that is added in each block (ExCEL's learnable calibration)."""
        embedded: Tensor = self.visual.ln_post(self.paths(tokens, learned)[-1]) @ self.visual.proj
        return embedded

    def paths(self, tokens: Tensor, learned: Tensor | None = None) -> tuple[list[Tensor], Tensor]:
        """What the normal path has after each block, and the calibrated tokens in the end with the normal path's class
        token, all (B, 1 + h w, C)."""
        for block in self.before:
            tokens = block(tokens)
        normal, calibrated = [tokens], tokens
        for block in self.blocks:
            parts = queries_keys_values(block, normal[-1])
            weights = self_similarity(parts)
            if learned is not None:
                weights = weights + parts[0].shape[1] * functional.pad(learned, (1, 0, 1, 0))
            gathered = (weights[:, None] @ parts[2]).transpose(1, 2).flatten(2)
            calibrated = calibrated + block.attn.out_proj(gathered)
            normal.append(block(normal[-1]))
        return normal[1:], torch.cat([normal[-1][:, :1], calibrated[:, 1:]], dim=1)


def learned_affinity(features: Tensor, sharpness: float = 3.0) -> tuple[Tensor, Tensor]:
    """From a decoder's features (B, C, h, w): what `CalibratedEncoder` adds, a softmax (B, n, n), and the logits of the
    affinity that it is made of, the cosine of patches centred by its mean over the batch, as released."""
    unit = functional.normalize(features.flatten(2), dim=1)
    cosine = unit.transpose(1, 2) @ unit
    logits = sharpness * (cosine - cosine.mean())
    return logits.masked_fill(logits < 0, -torch.inf).softmax(dim=-1), logits
