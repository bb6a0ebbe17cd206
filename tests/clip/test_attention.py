"""Blocks taken apart."""

import pytest
import torch
from open_clip.transformer import QuickGELU, ResidualAttentionBlock
from torch import nn

from weakclip.clip.attention import attend_by_heads, block_by_heads
from weakclip.clip.image_encoder import ImageEncoder
from weakclip.clip.model import load_clip


@pytest.mark.parametrize("activation", [QuickGELU, nn.GELU])
@torch.inference_mode()
def test_a_block_head_by_head_gives_what_the_block_gives(activation: type[nn.Module]) -> None:
    torch.manual_seed(0)
    block = ResidualAttentionBlock(48, 3, act_layer=activation).eval()
    tokens = 2 * torch.randn(2, 17, 48)
    torch.testing.assert_close(block_by_heads(block, tokens), block(tokens), atol=1e-5, rtol=1e-5)


def test_in_bfloat16_the_encoder_is_as_near_to_float32_head_by_head_as_with_its_own_blocks() -> None:
    images = 255 * torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    clip = load_clip("mini", "mini")
    rough = ImageEncoder(clip, (1, 4), "bfloat16")
    with torch.inference_mode():
        exact, by_heads = ImageEncoder(clip, (1, 4))(images), rough(images)
    own = [tokens.detach() for tokens in rough(images)]  # with gradients, by the blocks' own forward

    for truth, one, other in zip(exact, by_heads, own, strict=True):
        assert one.dtype == torch.float32 and not torch.equal(one, other)
        assert (one - truth).norm() < 1.5 * (other - truth).norm()


@pytest.mark.parametrize("shared", [0.0, 3.0], ids=["", "keys that share much"])
@pytest.mark.parametrize("gain", [1, 4, 8], ids=["even", "sharp", "sharper"])
def test_attention_in_bfloat16_has_at_most_twice_the_error_head_by_head(gain: float, shared: float) -> None:
    torch.manual_seed(0)
    block, tokens = ResidualAttentionBlock(64, 2).eval(), torch.randn(1, 257, 64)
    with torch.inference_mode():
        block.attn.in_proj_weight[:128] *= gain  # queries and keys: logits of up to 2, 40 or 150
        block.attn.in_proj_bias[64:128] = shared * torch.randn(64)
        exact = block.double().attention(block.ln_1(tokens.double()))
        block.float()
        with torch.autocast("cpu", torch.bfloat16):
            own, by_heads = block.attention(block.ln_1(tokens)), attend_by_heads(block, tokens)
    assert (by_heads - exact).norm() < 2 * (own - exact).norm()  # both round queries and keys; here logits are rounded, too
