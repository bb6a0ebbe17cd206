"""The attention of CLIP's blocks, taken apart: what the last of them look at, recomputed from tokens that are stored, and
attention head by head.

open_clip's blocks never show their attention weights, and they are not stored either: for a view of 32 x 32 patches the mean
over the heads of one block takes 2.1 MB in float16, more than the 1.6 MB of the tokens of ViT-B/16 that it follows from.
"""

from __future__ import annotations

import torch
from open_clip.transformer import QuickGELU, ResidualAttentionBlock
from torch import Tensor, nn
from torch.nn import functional

from weakclip.clip.model import Clip


def queries_keys_values(block: ResidualAttentionBlock, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of the tokens (B, N, C) that enter a block: each (B, heads, N, C / heads)."""
    attention = block.attn
    mixed = functional.linear(block.ln_1(tokens), attention.in_proj_weight, attention.in_proj_bias)
    q, k, v = mixed.unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
    return q, k, v


def attention_weights(left: Tensor, right: Tensor) -> Tensor:
    """softmax(left right' / sqrt(d)) of (B, heads, N, d): (B, heads, N, N), rows sum to 1."""
    likeness: Tensor = left @ right.transpose(-1, -2) / left.shape[-1] ** 0.5
    return likeness.softmax(dim=-1)


def block_by_heads(block: ResidualAttentionBlock, tokens: Tensor) -> Tensor:
    """What a block makes of the tokens (B, N, C), as its own forward does, but for rounding; see `attend_by_heads`."""
    tokens = tokens + block.ls_1(attend_by_heads(block, tokens))
    perceptron = block.mlp
    hidden = perceptron.c_fc(block.ln_2(tokens))
    # Of QuickGELU, x sigmoid(1.702 x), the inner values overwrite each other.
    quick = isinstance(perceptron.gelu, QuickGELU)
    hidden = (1.702 * hidden).sigmoid_().mul_(hidden) if quick else perceptron.gelu(hidden)
    result: Tensor = tokens + block.ls_2(perceptron.c_proj(hidden))
    return result


def attend_by_heads(block: ResidualAttentionBlock, tokens: Tensor) -> Tensor:
    """What the attention of a block that the tokens (B, N, C) enter adds to them, one head after the other.

    For inference in bfloat16 on a CPU: there torch's scaled_dot_product_attention takes as long as in float32, and two products
    with a softmax between them little more than half of that, while the weights of one head fit the cache.
    """
    q, k, v = queries_keys_values(block, tokens)
    q = q * q.shape[-1] ** -0.5
    k = k - k.mean(dim=2, keepdim=True)  # what all keys share no softmax sees, and products without it are rounded less
    seen = torch.empty_like(q.transpose(1, 2), memory_format=torch.contiguous_format)  # (B, N, heads, C / heads)
    for head in range(q.shape[1]):
        weights = (q[:, head] @ k[:, head].transpose(-1, -2)).softmax(dim=-1)
        seen[:, :, head] = weights @ v[:, head]
    added: Tensor = block.attn.out_proj(seen.flatten(2))
    return added


def block_attention(block: ResidualAttentionBlock, tokens: Tensor) -> Tensor:
    """Mean over the heads of the attention weights in a block that the tokens (B, N, C) enter: (B, N, N), rows sum to 1."""
    q, k, _ = queries_keys_values(block, tokens)
    return attention_weights(q, k).mean(dim=1)


def patches_only(attention: Tensor) -> Tensor:
    """Attention (..., 1 + n, 1 + n) among the patches alone, (..., n, n): without the class token's row and column, so that
    rows no longer sum to 1."""
    return attention[..., 1:, 1:]


class LastBlocks(nn.Module):
    """The blocks of a frozen CLIP after the block ``after`` (from 0), to be run on its stored output.

    Each costs what it costs in the encoder, 1 / depth of a pass.
    """

    def __init__(self, clip: Clip, after: int) -> None:
        super().__init__()
        if not 0 <= after < clip.depth - 1:
            raise ValueError(f"expected a block from 0 to {clip.depth - 2}, got {after}")
        self.blocks = nn.ModuleList(clip.network.visual.transformer.resblocks[after + 1 :])

    @torch.no_grad()
    def entering(self, tokens: Tensor) -> list[Tensor]:
        """The tokens (B, N, C) that enter each of the blocks, from those that enter the first of them."""
        found = [tokens]
        for block in self.blocks[:-1]:
            found.append(block(found[-1]))
        return found

    @torch.no_grad()
    def attention(self, tokens: Tensor, count: int) -> Tensor:
        """Mean over the last ``count`` blocks and their heads of the attention among the patches, (B, n, n), for the tokens
        (B, 1 + n, C) that enter the first of all these blocks."""
        if not 1 <= count <= len(self.blocks):
            raise ValueError(f"expected 1 to {len(self.blocks)} blocks, got {count}")
        pairs = list(zip(self.blocks, self.entering(tokens), strict=True))[-count:]
        return torch.stack([patches_only(block_attention(block, entering)) for block, entering in pairs]).mean(dim=0)
