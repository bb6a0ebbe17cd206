"""Dense features against open_clip's own forward pass."""

import pytest
import torch

from weakclip.clip.image_encoder import ImageEncoder, VisualProjection, resize_positions
from weakclip.clip.model import Clip, load_clip
from weakclip.errors import WeakClipError


@pytest.fixture(scope="module")
def clip() -> Clip:
    return load_clip("mini", "mini")


def images(height: int, width: int) -> torch.Tensor:
    return torch.randint(0, 256, (2, 3, height, width), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def test_tapped_blocks_and_class_token_are_open_clips(clip: Clip) -> None:
    pixels = images(128, 128)
    tapped = ImageEncoder(clip, [1, 4])(pixels)
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (clip.mean, clip.std))
    expected = clip.network.visual.forward_intermediates(
        (pixels / 255 - mean) / std, indices=[1, 4], output_fmt="NLC", output_extra_tokens=True
    )
    for tokens, patches, prefix in zip(
        tapped, expected["image_intermediates"], expected["image_intermediates_prefix"], strict=True
    ):
        assert torch.allclose(tokens, torch.cat([prefix, patches], dim=1), atol=1e-4)
    summary = VisualProjection(clip)(tapped[-1])[:, 0]
    assert torch.allclose(summary, expected["image_features"], atol=1e-4)


@pytest.mark.parametrize(("height", "width"), [(128, 64), (8, 8), (160, 96)])
def test_any_size_of_whole_patches_is_encoded(clip: Clip, height: int, width: int) -> None:
    (tokens,) = ImageEncoder(clip, [4])(images(height, width))
    assert tokens.shape == (2, 1 + height * width // 64, 128)


def test_what_a_side_has_beyond_whole_patches_is_not_seen(clip: Clip) -> None:
    pixels = images(70, 87)
    encoder = ImageEncoder(clip, [4])
    assert torch.equal(encoder(pixels)[0], encoder(pixels[:, :, :64, :80])[0])


def test_positions_of_the_same_grid_stay_and_others_keep_the_class_position() -> None:
    positions = torch.randn(1 + 16, 4)
    assert resize_positions(positions, (4, 4), (4, 4)) is positions
    resized = resize_positions(positions, (4, 4), (2, 6))
    assert resized.shape == (13, 4) and torch.equal(resized[0], positions[0])


@pytest.mark.parametrize("blocks", [[4, 1], [1, 5], [-1, 2], [2, 2]])
def test_blocks_that_do_not_exist_are_refused(clip: Clip, blocks: list[int]) -> None:
    with pytest.raises(WeakClipError, match="do not fit"):
        ImageEncoder(clip, blocks)


def test_bfloat16_gives_nearly_the_same_tokens_in_float32_and_says_so(clip: Clip) -> None:
    exact, fast = ImageEncoder(clip, [1, 4]), ImageEncoder(clip, [1, 4], "bfloat16")
    for tokens, rough in zip(exact(images(64, 64)), fast(images(64, 64)), strict=True):
        assert rough.dtype == torch.float32
        assert 0 < (rough - tokens).norm() < 0.03 * tokens.norm()
    assert fast.attributes == exact.attributes | {"precision": "bfloat16"}


def test_a_released_encoder_says_so_and_leaves_the_projection() -> None:
    clip = load_clip("mini", "mini")
    encoder, projection = ImageEncoder(clip, [4]), VisualProjection(clip)
    tokens = encoder(images(64, 64))[0]
    expected = projection(tokens)
    encoder.release()
    assert torch.equal(projection(tokens), expected)
    with pytest.raises(ValueError, match="still there"):
        encoder(images(64, 64))


def test_attention_comes_with_the_same_tokens_and_is_what_the_blocks_compute(clip: Clip) -> None:
    encoder, pixels = ImageEncoder(clip, [1, 4]), images(64, 96)
    tokens, attention = encoder.with_attention(pixels, 2)
    assert all(torch.equal(one, other) for one, other in zip(tokens, encoder(pixels), strict=True))
    assert attention.shape == (2, 2, 8 * 12, 8 * 12)
    block = clip.network.visual.transformer.resblocks[4]
    entering = block.ln_1(ImageEncoder(clip, [3, 4])(pixels)[0])
    _, expected = block.attn(entering, entering, entering, need_weights=True, average_attn_weights=True)
    torch.testing.assert_close(attention[1], expected[:, 1:, 1:], rtol=1e-4, atol=1e-6)


def test_attention_of_more_blocks_than_there_are_is_refused(clip: Clip) -> None:
    with pytest.raises(ValueError, match="expected 1 to 5 blocks, got 6"):
        ImageEncoder(clip, [4]).with_attention(images(64, 64), 6)
