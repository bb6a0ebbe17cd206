"""Refinement of logits by affinity, on features and attention that say which tokens belong together."""

import torch
from torch import Tensor

from weakclip.affinity_refinement import affinity_refinement, refine_logits

SIZE = (4, 4)


def two_halves() -> tuple[Tensor, Tensor, Tensor]:
    """Logits of an image whose left half is class 1 but for one token, features that tell the halves apart, even attention."""
    logits = torch.zeros(1, 3, 16, 16)
    logits[:, 1, :, :8], logits[:, 0, :, 8:] = 4, 4
    logits[:, :, 4:8, 4:8] = torch.tensor([1.4, 1.0, 0.0])[:, None, None]
    features = torch.zeros(1, 2, 16, 16)
    features[:, 0, :, :8], features[:, 1, :, 8:] = 1, 1
    return logits, features, torch.full((3, 1, 16, 16), 1 / 17)


def test_a_token_is_overruled_by_those_that_belong_to_it() -> None:
    logits, features, attention = two_halves()
    refined = refine_logits(logits, features, attention, SIZE, share=1.0)
    assert refined.shape == logits.shape
    assert (logits.argmax(dim=1)[0, 4:8, 4:8] == 0).all()
    assert (refined.argmax(dim=1)[0, 5:7, 5:7] == 1).all()
    assert (refined.argmax(dim=1)[0, :, 9:] == 0).all()


def test_a_share_of_zero_changes_nothing() -> None:
    logits, features, attention = two_halves()
    torch.testing.assert_close(refine_logits(logits, features, attention, SIZE, share=0.0), logits)


def test_tokens_that_all_say_the_same_go_on_saying_it() -> None:
    _, features, attention = two_halves()
    logits = torch.tensor([1.0, 0.0, 2.0])[None, :, None, None].expand(1, 3, 16, 16)
    torch.testing.assert_close(refine_logits(logits, features, attention, SIZE, share=1.0), logits)


def test_images_of_a_batch_do_not_touch_each_other() -> None:
    torch.manual_seed(0)
    logits, features = torch.randn(3, 4, 16, 16), torch.rand(3, 5, 16, 16)
    attention = torch.randn(2, 3, 16, 16).softmax(dim=-1)
    together = refine_logits(logits, features, attention, SIZE, share=0.5)
    alone = refine_logits(logits[1:2], features[1:2], attention[:, 1:2], SIZE, share=0.5)
    torch.testing.assert_close(together[1:2], alone)


def test_no_blocks_is_no_refinement() -> None:
    assert affinity_refinement(0, 0.5) is None
