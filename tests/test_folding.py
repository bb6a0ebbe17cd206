"""Linear maps that follow one another, as one."""

import torch

from tests.untrained import BLOCKS, SIZES
from weakclip.clip.model import load_clip
from weakclip.datasets.index import ClassList
from weakclip.folding import fold_laterals
from weakclip.network.variants import build_variant
from weakclip.network.weakclip import WeakClip

CLASSES = ClassList(names=("cat", "dog"), synonyms=((), ("hound",)), background_words=("grass", "sky"))


def network(variant: str) -> WeakClip:
    torch.manual_seed(0)
    clip = load_clip("mini", "mini")
    return build_variant(variant, clip, blocks=BLOCKS, classes=CLASSES, sizes=SIZES, image_size=64).model.eval()


@torch.inference_mode()
def logits(model: WeakClip) -> torch.Tensor:
    torch.manual_seed(1)
    result: torch.Tensor = model([torch.randn(2, 1 + 3 * 5, 128) for _ in BLOCKS], 3, 5)[0]
    return result


def test_a_folded_network_gives_the_same_logits_from_narrow_maps() -> None:
    model = network("published")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    folded = fold_laterals(model)
    assert [level[-1].weight.shape[1] for level in (folded.pyramid.to_4x, folded.pyramid.to_2x)] == [8, 8]
    torch.testing.assert_close(logits(folded), logits(model), atol=1e-5, rtol=1e-5)
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_network_with_narrow_maps_is_left_as_it_is() -> None:
    model = network("repaired")
    assert fold_laterals(model) is model


def test_frozen_parts_are_shared_with_the_network_itself() -> None:
    model = network("published")
    folded = fold_laterals(model)
    assert folded is not model and folded.text_encoder is model.text_encoder and folded.encoder is model.encoder
