"""Weights rounded once instead of in every pass."""

import pytest
import torch

from tests.untrained import BLOCKS, SIZES
from weakclip.clip.model import load_clip
from weakclip.datasets.index import ClassList
from weakclip.network.variants import build_variant
from weakclip.rounding import round_weights

CLASSES = ClassList(names=("cat", "dog"), synonyms=((), ("hound",)), background_words=("grass", "sky"))


@pytest.mark.parametrize("variant", ["repaired", "published"])
@torch.inference_mode()
def test_a_rounded_network_gives_the_same_logits(variant: str) -> None:
    torch.manual_seed(0)
    network = build_variant(
        variant,
        load_clip("mini", "mini"),
        blocks=BLOCKS,
        classes=CLASSES,
        sizes=SIZES,
        image_size=64,
        precision="bfloat16",
    )
    model, encoder = network.model.eval(), network.encoder.eval()
    images = 255 * torch.rand(2, 3, 64, 96)
    tokens = encoder(images)
    outputs = model(tokens, 8, 12)

    round_weights(model)
    round_weights(encoder)

    assert all(torch.equal(one, other) for one, other in zip(encoder(images), tokens, strict=True))
    assert all(torch.equal(one, other) for one, other in zip(model(tokens, 8, 12), outputs, strict=True))
    assert model.head.classify.weight.dtype == torch.bfloat16
    assert encoder.visual.transformer.resblocks[0].attn.in_proj_weight.dtype == torch.bfloat16
    assert model.text_encoder.contexts.dtype == torch.float32
