"""Weights rounded once instead of in every pass."""

import torch

from tests.untrained import BLOCKS, SIZES
from weakclip.clip.model import load_clip
from weakclip.datasets.index import ClassList
from weakclip.network.variants import build_variant
from weakclip.rounding import round_weights

CLASSES = ClassList(names=("cat", "dog"), synonyms=((), ("hound",)), background_words=("grass", "sky"))


@torch.inference_mode()
def test_a_rounded_network_gives_the_same_logits_and_leaves_the_other_as_it_was() -> None:
    torch.manual_seed(0)
    network = build_variant(
        "repaired",
        load_clip("mini", "mini"),
        blocks=BLOCKS,
        classes=CLASSES,
        sizes=SIZES,
        image_size=64,
        precision="bfloat16",
    )
    model, encoder = network.model.eval(), network.encoder.eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    images = 255 * torch.rand(2, 3, 64, 96)

    rounded, rounding_encoder = round_weights(model), round_weights(encoder)

    tokens = encoder(images)
    assert all(torch.equal(one, other) for one, other in zip(rounding_encoder(images), tokens, strict=True))
    assert all(torch.equal(one, other) for one, other in zip(rounded(tokens, 8, 12), model(tokens, 8, 12), strict=True))
    assert rounded.head.classify.weight.dtype == torch.bfloat16
    assert rounding_encoder.visual.transformer.resblocks[0].attn.in_proj_weight.dtype == torch.bfloat16
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert rounded.text_encoder.contexts is model.text_encoder.contexts
