"""Text embeddings against open_clip's own, and learnable contexts."""

import pytest
import torch
from torch.nn import functional

from weakclip.clip.model import Clip, load_clip
from weakclip.clip.prompts import background_phrases, describe, photo_of
from weakclip.clip.text_encoder import TextEncoder, encode_texts, tokenize
from weakclip.errors import WeakClipError


@pytest.fixture(scope="module")
def clip() -> Clip:
    return load_clip("mini", "mini")


def test_tokens_are_the_stock_tokenizers(clip: Clip) -> None:
    texts = ["cat", "a photo of a train"]
    ids = tokenize(clip, texts)
    assert torch.equal(ids, clip.tokenizer(texts)[:, : ids.shape[1]])
    assert not clip.tokenizer(texts)[:, ids.shape[1] :].any()


def test_embeddings_without_contexts_are_open_clips(clip: Clip) -> None:
    phrases = ["cat", "train, railway"]
    expected = clip.network.encode_text(clip.tokenizer(phrases))
    assert torch.allclose(TextEncoder(clip, phrases, 0)(), expected, atol=1e-5)
    assert torch.allclose(encode_texts(clip, phrases), functional.normalize(expected, dim=-1), atol=1e-5)


def test_contexts_stand_between_start_and_phrase(clip: Clip) -> None:
    """Contexts that hold the embeddings of real words give the embedding of the sentence with those words."""
    encoder = TextEncoder(clip, ["cat"], 4)
    ids = tokenize(clip, ["a photo of a cat"])
    with torch.no_grad():
        encoder.contexts.copy_(clip.network.token_embedding(ids)[0, 1:5])
    expected = clip.network.encode_text(clip.tokenizer(["a photo of a cat"]))
    assert torch.allclose(encoder(), expected, atol=1e-5)


def test_a_phrase_does_not_see_the_others(clip: Clip) -> None:
    """In one sequence or alone: the same embedding, and the same gradient at the contexts that all share."""
    phrases = ["cat", "train, railway, a very long phrase", "dog, puppy"]
    together = TextEncoder(clip, phrases, 4)
    embeddings = together()
    embeddings.square().sum().backward()
    gradient = torch.zeros_like(together.contexts)
    for phrase, embedding in zip(phrases, embeddings, strict=True):
        alone = TextEncoder(clip, [phrase], 4)
        alone.contexts.data.copy_(together.contexts.data)
        expected = alone()[0]
        expected.square().sum().backward()
        assert torch.allclose(embedding, expected, atol=1e-5)
        assert alone.contexts.grad is not None
        gradient += alone.contexts.grad
    assert together.contexts.grad is not None
    assert torch.allclose(together.contexts.grad, gradient, rtol=1e-4, atol=1e-5)


def test_only_contexts_are_trained(clip: Clip) -> None:
    encoder = TextEncoder(clip, ["cat", "dog"], 3)
    encoder().square().sum().backward()
    trained = {name for name, parameter in encoder.named_parameters() if parameter.grad is not None}
    assert trained == {"contexts"}


def test_a_released_text_encoder_gives_the_same_embeddings_and_keeps_the_words_of_its_phrases_alone() -> None:
    clip = load_clip("mini", "mini")
    encoder = TextEncoder(clip, ["a cat", "a dog on grass"], context_length=2)
    expected = encoder()
    encoder.release()
    assert torch.equal(encoder(), expected)
    assert len(encoder.token_embedding.weight) == len({*encoder.ids.flatten().tolist()} - {0})
    assert clip.network.token_embedding.weight.data_ptr() == encoder.token_embedding.weight.data_ptr()


def test_texts_that_do_not_fit_are_refused_not_cut(clip: Clip) -> None:
    with pytest.raises(WeakClipError, match="tokens; with 8 contexts"):
        TextEncoder(clip, ["cat " * 30], 8)


def test_phrases() -> None:
    assert describe("person", ["people", "human"]) == "person, people, human"
    assert photo_of("cat") == "a photo of a cat"
    assert background_phrases([]) == ("background",)
    assert background_phrases(["sky", "grass"]) == ("sky", "grass")
