"""CLIP's image encoder as a source of dense features: the tokens after chosen blocks, class token first."""

from __future__ import annotations

from collections.abc import Sequence

import open_clip
import torch
from torch import Tensor, nn
from torch.nn import functional

from weakclip.clip.attention import block_attention, block_by_heads, patches_only
from weakclip.clip.model import Clip
from weakclip.device import arithmetic, from_host
from weakclip.errors import WeakClipError


def resize_positions(
    positions: Tensor, source: tuple[int, int], target: tuple[int, int], *, mode: str = "bicubic", antialias: bool = True
) -> Tensor:
    """Positional embedding (1 + h w, C) of one grid for another; the class position stays. By default bicubic with antialias,
    as open_clip resizes on loading."""
    if source == target:
        return positions
    grid = positions[1:].reshape(1, *source, -1).permute(0, 3, 1, 2)
    grid = functional.interpolate(grid, size=target, mode=mode, antialias=antialias, align_corners=False)
    return torch.cat([positions[:1], grid.permute(0, 2, 3, 1).flatten(1, 2)[0]])


class ImageEncoder(nn.Module):
    """Tokens of a frozen CLIP after the blocks ``blocks`` (counted from 0, ascending), for images of any size.

    ``precision``: what it computes in, float32 or bfloat16. `forward` takes (B, 3, H, W) RGB, 0..255, and returns per block
    (B, 1 + h w, C) float32; what the sides have beyond a multiple of the patch is not seen.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, clip: Clip, blocks: Sequence[int], precision: str = "float32") -> None:
        super().__init__()
        if list(blocks) != sorted(set(blocks)) or blocks[0] < 0 or blocks[-1] >= clip.depth:
            raise WeakClipError(
                f"clip.blocks {list(blocks)} do not fit {clip.model}", f"ascending block numbers from 0 to {clip.depth - 1}"
            )
        self.visual: open_clip.transformer.VisionTransformer = clip.network.visual
        self.patch, self.width, self.blocks, self.precision = clip.patch, clip.width, tuple(blocks), precision
        self.attributes: dict[str, object] = {
            "model": clip.model,
            "weights": clip.weights,
            "weights_hash": clip.weights_hash,
            "mean": list(clip.mean),
            "std": list(clip.std),
            "patch": clip.patch,
            "class_token": True,
            "open_clip": open_clip.__version__,
            "torch": torch.__version__.split("+")[0],
        }
        if precision != "float32":
            self.attributes["precision"] = precision
        # torch's fused layer writes out all attention weights. Without it the blocks use scaled_dot_product_attention, which
        # takes a sixth less time on a CPU. It can only be switched for the whole process.
        torch.backends.mha.set_fastpath_enabled(False)
        # cuDNN's attention is planned anew for every shape, a seventh of a second each on an H100, and photos come in many.
        torch.backends.cuda.enable_cudnn_sdp(False)
        self.register_buffer("mean", torch.tensor(clip.mean).view(3, 1, 1) * 255, persistent=False)
        self.register_buffer("std", torch.tensor(clip.std).view(3, 1, 1) * 255, persistent=False)

    @property
    def depth(self) -> int:
        """How many blocks it has."""
        return len(self.visual.transformer.resblocks)

    def release(self) -> None:
        """Gives the memory of the blocks back, where all features are cached; it cannot encode any more. What other parts share
        with it, such as CLIP's projection, stays."""
        self.visual.transformer.resblocks = nn.ModuleList()

    def normalise(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) of 0..255 as float32 in the units of the network."""
        return (from_host(images, self.mean.device).float() - self.mean) / self.std

    def embed(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) -> tokens before the first block (B, 1 + h w, C)."""
        visual = self.visual
        height, width = (side // self.patch * self.patch for side in images.shape[2:])
        grid = visual.conv1(images[:, :, :height, :width])  # cut, for a stem that pads would see a patch more
        size = (grid.shape[2], grid.shape[3])
        tokens = torch.cat([visual.class_embedding.expand(len(images), 1, -1), grid.flatten(2).transpose(1, 2)], dim=1)
        embedded: Tensor = visual.ln_pre(tokens + self.positions(size))
        return embedded

    def positions(self, size: tuple[int, int]) -> Tensor:
        """What is added to the tokens of a grid of ``size``: (1 + h w, C)."""
        return resize_positions(self.visual.positional_embedding, self.visual.grid_size, size)

    def forward(self, images: Tensor) -> list[Tensor]:
        return self._run(images, attention_of=0)[0]

    def with_attention(self, images: Tensor, count: int) -> tuple[list[Tensor], Tensor]:
        """What `forward` gives, and the attention among the patches in the last ``count`` blocks, each the mean over its heads:
        (count, B, h w, h w), whose rows sum to less than 1, for the class token is left out."""
        if not 1 <= count <= len(self.visual.transformer.resblocks):
            raise ValueError(f"expected 1 to {len(self.visual.transformer.resblocks)} blocks, got {count}")
        tapped, attention = self._run(images, attention_of=count)
        return tapped, torch.stack(attention)

    def _run(self, images: Tensor, attention_of: int) -> tuple[list[Tensor], list[Tensor]]:
        if self.blocks[-1] >= len(self.visual.transformer.resblocks):
            raise ValueError("expected an encoder whose blocks are still there")
        tapped, attention = [], []
        by_heads = self.precision == "bfloat16" and self.mean.device.type == "cpu" and not torch.is_grad_enabled()
        blocks = self.visual.transformer.resblocks[: self.blocks[-1] + 1]
        with arithmetic(self.precision):
            tokens = self.embed(self.normalise(images))
            for index, block in enumerate(blocks):
                if index >= len(blocks) - attention_of:
                    attention.append(patches_only(block_attention(block, tokens)).float())
                tokens = block_by_heads(block, tokens) if by_heads else block(tokens)
                if index in self.blocks:
                    tapped.append(tokens.float())
        return tapped, attention


class VisualProjection(nn.Module):
    """CLIP's last norm and projection, applied to every token: (B, N, C) of the last block -> (B, N, E)."""

    def __init__(self, clip: Clip) -> None:
        super().__init__()
        self.norm = clip.network.visual.ln_post
        self.projection = clip.network.visual.proj

    def forward(self, tokens: Tensor) -> Tensor:
        projected: Tensor = self.norm(tokens) @ self.projection
        return projected
