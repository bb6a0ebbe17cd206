"""What a second frozen encoder adds to the decoder: a projected map of its tokens beside the score map at every level."""

from __future__ import annotations

from torch import Tensor, nn


class SecondProjection(nn.Module):
    """Normalised tokens, projected: (B, 1 + h w, width), of which the first is left out -> (B, channels, h, w).

    The neck takes it as it takes the score map: resized to each level of the pyramid and concatenated.
    """

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, channels), nn.GELU())

    def forward(self, tokens: Tensor, height: int, width: int) -> Tensor:
        maps: Tensor = self.project(tokens[:, 1:]).transpose(1, 2).unflatten(-1, (height, width))
        return maps
