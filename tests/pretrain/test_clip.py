"""Pretraining of the mini CLIP: canvases that fit their targets, losses, resume, and the card."""

from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch

from weakclip.clip.mini import TEXT
from weakclip.datasets.mini import CLASS_NAMES, MiniWorld
from weakclip.pretrain.canvases import GRID, WORDS, ClipRecipe, compose, tile
from weakclip.pretrain.clip import Captioner, look_around, pretrain_clip, take, word_loss
from weakclip.pretrain.diagnosis import diagnose
from weakclip.pretrain.encoder import WordMaps
from weakclip.pretrain.scenes import SceneBank, draw_bank
from weakclip.pretrain.teacher import word_targets
from weakclip.weights import load_weights

RECIPE = ClipRecipe(scenes=8, iterations=4, canvases=2)


@pytest.fixture(scope="module")
def bank() -> SceneBank:
    return draw_bank(MiniWorld(seed=5), "test", RECIPE.scenes)


def colour_targets(bank: SceneBank) -> np.ndarray:
    """Targets that can be read off the pixels: word 0 has the share of red, word 1 what is left."""
    red = bank.images[..., 0].reshape(len(bank), 32, 4, 32, 4).mean((2, 4))
    targets = np.zeros((len(bank), len(WORDS), 32, 32), np.uint8)
    targets[:, 0], targets[:, 1] = red.round(), 255 - red.round()
    return targets


def test_targets_follow_the_pixels_through_zoom_mirror_and_collage(bank: SceneBank) -> None:
    for step in range(6):
        canvases = compose(bank, colour_targets(bank), RECIPE, step)
        red = torch.nn.functional.avg_pool2d(canvases.pixels[:, 0] / 255, 128 // GRID).flatten(1)
        assert torch.corrcoef(torch.stack([red.flatten(), canvases.targets[..., 0].flatten()]))[0, 1] > 0.9
        assert torch.allclose(canvases.targets.sum(-1), torch.ones(2, GRID**2), atol=0.02)


def test_both_kinds_of_canvases_come_and_captions_say_what_is_on_them(bank: SceneBank) -> None:
    kinds = set()
    for step in range(8):
        canvases = compose(bank, colour_targets(bank), RECIPE, step)
        per_canvas = len(canvases.captions) // 2
        kinds.add(per_canvas)
        for index, (sentence, said) in enumerate(canvases.captions):
            assert all(word in sentence for word, named in zip(WORDS, said, strict=True) if named)
            assert canvases.named[index // per_canvas][torch.from_numpy(said)].all()
    assert kinds == {1, 4}


def test_tiles_lie_in_reading_order() -> None:
    pictures = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 1, 2, 2)
    assert tile(pictures, 2)[0, 0, ::2, ::2].tolist() == [[0, 1], [2, 3]]


def test_word_loss_counts_words_and_tokens_half_and_half() -> None:
    # Three tokens of word 0 at share 1/2, none of them of word 1: both halves are log 2.
    targets = torch.tensor([[[1.0, 0.0]] * 3])
    assert word_loss(torch.full((1, 3, 2), 0.5).log(), targets).item() == pytest.approx(np.log(2))


def test_hidden_tokens_do_not_change_where_the_others_are() -> None:
    tokens = torch.arange(6.0).view(1, 3, 2)
    assert take(tokens, torch.tensor([[2, 0]])).tolist() == [[[4, 5], [0, 1]]]


def test_attention_starts_by_looking_at_similar_tokens() -> None:
    torch.manual_seed(0)
    attention = torch.nn.MultiheadAttention(32, 2, batch_first=True)
    with torch.no_grad():
        look_around(attention)
    tokens = 3 * torch.eye(32)[None, :8]
    _, weights = attention(tokens, tokens, tokens)
    assert weights[0].diagonal().mean() > 1.3 / 8


def test_pretraining_resumes_to_the_same_bytes_and_writes_a_card(bank: SceneBank, tmp_path: Path) -> None:
    torch.manual_seed(0)
    teacher = WordMaps()
    targets = word_targets(teacher, bank)
    assert (targets.sum(axis=1, dtype=int) > 240).all()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        pretrain_clip(bank=bank, teacher=teacher, recipe=RECIPE, folder=tmp_path / name, out=tmp_path / name)
    assert (tmp_path / "a" / "mini_clip.safetensors").read_bytes() == (tmp_path / "b" / "mini_clip.safetensors").read_bytes()
    state, card = load_weights(tmp_path / "a", "mini_clip")
    assert card["supervision"] == "captions, no masks"
    tokenizer = open_clip.SimpleTokenizer(context_length=TEXT.context_length)
    used = {int(token) for token in tokenizer([f"a photo of a {word}" for word in WORDS]).unique()}
    rows = state["token_embedding.weight"].abs().sum(1) > 0
    assert rows[sorted(used)].all() and rows.sum() < 60


def test_diagnosis_gives_percentages() -> None:
    from weakclip.clip.model import mini_clip

    torch.manual_seed(0)
    scenes = [MiniWorld(seed=5).scene("test", index) for index in range(4)]
    figures = diagnose(mini_clip(Captioner().clip), scenes)
    assert set(figures) == {"tag_map", "token_miou"} and all(0 <= value <= 100 for value in figures.values())
    assert len(CLASS_NAMES) == 10
