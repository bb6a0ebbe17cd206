"""Co-attention between text and image (WeakCLIP section 3.4; after DenseCLIP's context decoder).

Text embeddings look at the visual tokens of the image, and visual tokens look at the texts; each side moves by a learned
fraction of what it saw: text + gamma * seen, visual + beta * seen.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Attention(nn.Module):
    """Multi-head attention with projections of queries, keys and values that have no bias.

    `forward`: queries (B, Q, D), memory (B, M, D) -> (B, Q, D).
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()

    def forward(self, queries: Tensor, memory: Tensor) -> Tensor:
        def split(x: Tensor) -> Tensor:
            heads: Tensor = x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            return heads

        seen = functional.scaled_dot_product_attention(
            split(self.query(queries)), split(self.key(memory)), split(self.value(memory))
        )
        out: Tensor = self.dropout(self.out(seen.transpose(1, 2).flatten(2)))
        return out


class DecoderLayer(nn.Module):
    """Self-attention, attention to the memory as it is, and a perceptron, each with a residual.

    `forward`: (B, Q, D), memory (B, M, D) -> (B, Q, D).
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.self_attention = Attention(width, heads, dropout)
        self.cross_attention = Attention(width, heads, dropout)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        normed = self.norm1(x)
        x = x + self.self_attention(normed, normed)
        x = x + self.cross_attention(self.norm2(x), memory)
        x = x + self.dropout(self.mlp(self.norm3(x)))
        return x


class ContextDecoder(nn.Module):
    """Two stacks of decoder layers over shared projections: text sees image, image sees text.

    `forward`: texts (B, T, E), visual tokens (B, 1 + h w, E), class token first -> what each side saw, same shapes.
    Layers are chained, as the paper describes.
    """

    def __init__(self, embedding: int, width: int, layers: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.project_memory = nn.Sequential(nn.LayerNorm(embedding), nn.Linear(embedding, width), nn.LayerNorm(width))
        self.project_text = nn.Sequential(nn.LayerNorm(embedding), nn.Linear(embedding, width))
        self.text_layers = nn.ModuleList(DecoderLayer(width, heads, dropout) for _ in range(layers))
        self.visual_layers = nn.ModuleList(DecoderLayer(width, heads, dropout) for _ in range(layers))
        self.text_out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, embedding))
        self.visual_out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, embedding))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, texts: Tensor, visual: Tensor) -> tuple[Tensor, Tensor]:
        memory, phrases = self.project_memory(visual), self.project_text(texts)
        text, image = phrases, memory
        for layer in self.text_layers:
            text = layer(text, memory)
        for layer in self.visual_layers:
            image = layer(image, phrases)
        return self.text_out(text), self.visual_out(image)


class CoAttention(nn.Module):
    """The context decoder with its learned fractions gamma and beta, which start at 0.1.

    `forward`: texts (B, T, E), visual tokens (B, 1 + h w, E) -> both, moved by what they saw.
    """

    def __init__(self, decoder: ContextDecoder, embedding: int) -> None:
        super().__init__()
        self.decoder = decoder
        self.gamma = nn.Parameter(torch.full((embedding,), 0.1))
        self.beta = nn.Parameter(torch.full((embedding,), 0.1))

    def forward(self, texts: Tensor, visual: Tensor) -> tuple[Tensor, Tensor]:
        text_seen, visual_seen = self.decoder(texts, visual)
        return texts + self.gamma * text_seen, visual + self.beta * visual_seen
