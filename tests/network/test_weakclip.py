"""The network as a whole and part by part."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from weakclip.clip.model import Clip, load_clip
from weakclip.network.context_decoder import Attention, ContextDecoder
from weakclip.network.decode_head import DecodeHead
from weakclip.network.neck import Neck
from weakclip.network.pyramid import PlainPyramid, PyramidAdapter
from weakclip.network.score_map import append_scores, merge_background, score_map
from weakclip.network.weakclip import WeakClip, WeakClipSizes, build_weakclip, load_trainable
from weakclip.weights import load_weights, save_weights

SIZES = WeakClipSizes(
    context_length=2, pyramid_adapter=True, co_attention=True, decoder_width=16, decoder_layers=2, decoder_heads=2, channels=8
)


@pytest.fixture(scope="module")
def clip() -> Clip:
    return load_clip("mini", "mini")


def build(clip: Clip, second_width: int = 0, **changes: object) -> WeakClip:
    torch.manual_seed(0)
    return build_weakclip(
        clip,
        class_names=["cat", "dog"],
        synonyms=[[], ["hound"]],
        background_words=["grass", "sky"],
        sizes=WeakClipSizes(**(SIZES.card() | changes)),  # type: ignore[arg-type]
        second_width=second_width,
    )


def tokens(height: int, width: int, batch: int = 2) -> list[torch.Tensor]:
    torch.manual_seed(1)
    return [torch.randn(batch, 1 + height * width, 128) for _ in range(3)]


@pytest.mark.parametrize("changes", [{}, {"pyramid_adapter": False}, {"co_attention": False}, {"context_length": 0}])
@pytest.mark.parametrize(("height", "width"), [(4, 4), (3, 5), (1, 2)])
def test_logits_and_score_map_have_their_shapes(clip: Clip, changes: dict[str, object], height: int, width: int) -> None:
    logits, scores = build(clip, **changes).eval()(tokens(height, width), height, width)
    assert logits.shape == (2, 3, 4 * height, 4 * width)
    assert scores.shape == (2, 3, height, width)
    assert scores.abs().max() <= 1 + 1e-5


def test_everything_but_clip_learns(clip: Clip) -> None:
    model = build(clip).eval()
    logits, scores = model(tokens(4, 4), 4, 4)
    (logits.square().mean() + scores.square().mean()).backward()
    with_gradient = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trainable - with_gradient == set()
    assert not any(name.startswith(("projection", "text_encoder.transformer")) for name in trainable)
    assert {"text_encoder.contexts", "co_attention.gamma", "co_attention.beta"} <= trainable


def test_texts_computed_before_give_the_same_answer(clip: Clip) -> None:
    model = build(clip).eval()
    with torch.no_grad():
        direct, before = model(tokens(4, 4), 4, 4), model(tokens(4, 4), 4, 4, model.text_encoder())
    assert torch.equal(direct[0], before[0])


def test_images_of_a_batch_do_not_touch_each_other(clip: Clip) -> None:
    model = build(clip).train()
    model.head.dropout.eval()
    both = tokens(4, 4)
    with torch.no_grad():
        together, alone = model(both, 4, 4)[0], model([block[:1] for block in both], 4, 4)[0]
    assert torch.allclose(together[:1], alone, atol=1e-5)


def test_trained_part_comes_back_without_clip(clip: Clip, tmp_path: Path) -> None:
    model = build(clip)
    save_weights(tmp_path, "weakclip", model.trainable_state(), {})
    other = build(clip)
    with torch.no_grad():
        other.head.classify.weight.zero_()
    state, _ = load_weights(tmp_path, "weakclip")
    assert not any("transformer" in key for key in state)
    load_trainable(other, state, "weakclip")
    assert torch.equal(other.head.classify.weight, model.head.classify.weight)


def test_attention_matches_torchs() -> None:
    torch.manual_seed(0)
    ours, theirs = Attention(8, 2), nn.MultiheadAttention(8, 2, bias=True, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
        theirs.in_proj_bias.zero_()
        theirs.out_proj.load_state_dict(ours.out.state_dict())
    queries, memory = torch.randn(2, 3, 8), torch.randn(2, 5, 8)
    assert torch.allclose(ours(queries, memory), theirs(queries, memory, memory)[0], atol=1e-6)


def test_every_layer_of_the_context_decoder_counts() -> None:
    torch.manual_seed(0)
    decoder = ContextDecoder(8, 8, layers=3, heads=2)
    text, image = decoder(torch.randn(1, 3, 8), torch.randn(1, 5, 8))
    assert text.shape == (1, 3, 8) and image.shape == (1, 5, 8)
    (text.square().sum() + image.square().sum()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for name, p in decoder.named_parameters() if "weight" in name)


def test_score_map_is_the_cosine() -> None:
    texts, visual = torch.randn(1, 2, 4), torch.randn(1, 6, 4)
    scores = score_map(texts, visual, 2, 3)
    expected = functional.cosine_similarity(texts[0, 1], visual[0, 5], dim=0)
    assert torch.allclose(scores[0, 1, 1, 2], expected, atol=1e-6)


def test_background_is_the_best_of_its_words() -> None:
    scores = torch.tensor([0.1, 0.4, 0.2, 0.3]).view(1, 4, 1, 1)
    assert torch.allclose(merge_background(scores, 2).flatten(), torch.tensor([0.4, 0.2, 0.3]))


def test_scores_are_appended_at_the_size_of_each_level() -> None:
    levels = append_scores([torch.zeros(1, 5, 8, 8), torch.zeros(1, 5, 2, 2)], torch.ones(1, 3, 4, 4))
    assert [tuple(level.shape) for level in levels] == [(1, 8, 8, 8), (1, 8, 2, 2)]
    assert (levels[0][:, 5:] == 1).all()


@pytest.mark.parametrize("kind", [PyramidAdapter, PlainPyramid])
def test_pyramids_have_four_scales_even_from_one_block(kind: type[nn.Module]) -> None:
    levels = kind(16, 8)([torch.randn(1, 16, 3, 5)])
    assert [tuple(level.shape[2:]) for level in levels] == [(12, 20), (6, 10), (3, 5), (2, 3)]


def test_neck_and_head_bring_odd_sizes_together() -> None:
    sizes = [(12, 20), (6, 10), (3, 5), (2, 3)]
    levels = Neck(6, 8)([torch.randn(1, 6, *size) for size in sizes])
    assert [tuple(level.shape) for level in levels] == [(1, 8, *size) for size in sizes]
    logits, features = DecodeHead(8, 4)(levels)
    assert logits.shape == (1, 4, 12, 20) and features.shape == (1, 8, 12, 20)
    assert features.min() >= 0


def test_logits_are_made_of_the_features_that_decode_gives(clip: Clip) -> None:
    model = build(clip).eval()
    logits, scores, features = model.decode(tokens(4, 4), 4, 4)
    assert torch.equal(logits, model.head.classify(features))
    assert all(torch.equal(one, other) for one, other in zip((logits, scores), model(tokens(4, 4), 4, 4), strict=True))


def test_bfloat16_gives_nearly_the_same_results_and_gradients_in_float32(clip: Clip) -> None:
    found = []
    for precision in ("float32", "bfloat16"):
        model = build(clip).eval()
        model.precision = precision
        logits, scores = model(tokens(4, 4), 4, 4)
        (logits.square().mean() + scores.square().mean()).backward()
        assert {logits.dtype, scores.dtype} == {torch.float32}
        gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        found.append((logits, scores, gradient))
    for exact, rough in zip(*found, strict=True):
        assert 0 < (rough - exact).norm() < 0.05 * exact.norm()


@pytest.mark.parametrize(("precision", "second_width"), [("float32", 0), ("bfloat16", 0), ("float32", 48)])
def test_values_are_computed_again_or_kept_for_the_same_gradients(clip: Clip, precision: str, second_width: int) -> None:
    found, kept = [], []
    seen = [*tokens(8, 8), *([torch.randn(2, 1 + 8 * 8, second_width)] if second_width else [])]
    for recompute in (False, True):
        model = build(clip, second_width).train()
        model.precision, model.recompute = precision, recompute
        storages: dict[int, Tensor] = {}  # by address; held, so that no address is used twice

        def keep(value: Tensor, storages: dict[int, Tensor] = storages) -> Tensor:
            storages[value.untyped_storage().data_ptr()] = value
            return value

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
            torch.manual_seed(2)
            outputs = model.decode(seen, 8, 8)
            kept.append(sum(value.untyped_storage().nbytes() for value in storages.values()))
        torch.stack([output.square().mean() for output in outputs]).sum().backward()
        found.append([*outputs, *(p.grad for p in model.parameters() if p.grad is not None)])

    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    assert kept[1] < 0.5 * kept[0]
