import json
from pathlib import Path

import numpy as np
import pytest
import torch

from weakclip.datasets.mini import MiniWorld
from weakclip.deeplab import encoders
from weakclip.deeplab.encoders import build_encoder
from weakclip.mini_encoder import MiniEncoder
from weakclip.pretrain import encoder
from weakclip.pretrain.encoder import (
    WORDS,
    EncoderRecipe,
    WordMaps,
    average_precision,
    by_picture,
    compose,
    named_words,
    pretrain_encoder,
)
from weakclip.pretrain.scenes import SceneBank, draw_bank

TINY = EncoderRecipe(iterations=4, scenes=6, held_out=4, batch=2, small_batch=2, small_share=0.5)


@pytest.fixture(scope="module")
def bank() -> SceneBank:
    return draw_bank(MiniWorld(seed=1000), "pretrain", 6)


def test_small_pictures_come_first_then_whole_ones_and_collages_by_turns(bank: SceneBank) -> None:
    named = named_words(bank)
    steps = [compose(bank.images, named, TINY, step) for step in range(4)]
    assert [(c.grid, c.pixels.shape) for c in steps] == [
        (1, (2, 64, 64, 3)),
        (1, (2, 64, 64, 3)),
        (2, (2, 128, 128, 3)),
        (1, (2, 128, 128, 3)),
    ]
    assert [len(c.named) for c in steps] == [2, 2, 8, 2]


def test_each_picture_answers_for_its_own_cells() -> None:
    maps = torch.arange(2 * 4 * 4, dtype=torch.float).reshape(1, 2, 4, 4)
    tiles = by_picture(maps, 2)
    assert tiles.shape == (4, 4, 2)
    assert tiles[1, :, 0].tolist() == [2, 3, 6, 7]  # the upper right picture
    assert torch.equal(by_picture(maps, 1)[0, :, 1], maps[0, 1].flatten())


def test_words_of_a_scene_are_marked(bank: SceneBank) -> None:
    named = named_words(bank)
    assert {WORDS[index] for index in np.flatnonzero(named[0])} == set(bank.words[0])


def test_word_maps_have_stride_four() -> None:
    assert WordMaps()(torch.zeros(2, 3, 64, 64)).shape == (2, len(WORDS), 16, 16)


def test_average_precision_by_hand() -> None:
    scores = np.array([0.9, 0.8, 0.7, 0.1], np.float32)
    assert average_precision(scores, np.array([True, False, True, False])) == pytest.approx((1 + 2 / 3) / 2)


def test_a_killed_run_ends_with_the_same_files_which_the_network_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "CHECKPOINT_EVERY", 2)
    folders = [tmp_path / name for name in ("straight", "killed")]
    for folder in folders:
        folder.mkdir()
    pretrain_encoder(recipe=TINY, folder=folders[0], out=folders[0])

    original = encoder.losses_of_canvases
    calls = iter(range(100))

    def killed(*arguments: object) -> dict[str, torch.Tensor]:
        if next(calls) == 3:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(encoder, "losses_of_canvases", killed)
    with pytest.raises(KeyboardInterrupt):
        pretrain_encoder(recipe=TINY, folder=folders[1], out=folders[1])
    monkeypatch.setattr(encoder, "losses_of_canvases", original)
    pretrain_encoder(recipe=TINY, folder=folders[1], out=folders[1])
    for name in ("mini_encoder.safetensors", "mini_encoder.json"):
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()

    card = json.loads((folders[0] / "mini_encoder.json").read_text())
    assert card["recipe"]["world"] == 1000 and 0 <= card["held_out"]["tag_map"] <= 1
    assert (folders[0] / "mini_encoder.safetensors").stat().st_size < 4_000_000
    monkeypatch.setattr(encoders, "WEIGHTS_FOLDER", folders[0])
    assert isinstance(build_encoder("mini", "mini", 16).network, MiniEncoder)
