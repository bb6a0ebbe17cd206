"""Dense word targets for the mini CLIP's tokens, from a small convolutional network that has read the same captions.

A convolutional network learns where a word is from captions in a tenth of the time that a transformer takes; the transformer
then learns it from the network, cell by cell. Each picture's caption has the last word: what it does not name is struck out.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from weakclip.deeplab.encoders import MINI_WEIGHTS
from weakclip.pretrain.encoder import HEADS_WEIGHTS, WORDS, WordMaps
from weakclip.pretrain.scenes import SceneBank
from weakclip.progress import track
from weakclip.weights import load_into, load_weights


def load_word_maps(folder: Path) -> WordMaps:
    """The mini encoder with its word heads, as `weakclip pretrain-mini encoder` left them."""
    model = WordMaps()
    for module, name in ((model.encoder, MINI_WEIGHTS), (model.heads, HEADS_WEIGHTS)):
        state, _ = load_weights(folder, name)
        load_into(module, state, f"{folder / name}.safetensors")
    return model


@torch.inference_mode()
def word_targets(model: WordMaps, bank: SceneBank, batch_size: int = 32) -> NDArray[np.uint8]:
    """Share of every word in every cell, (n, words, 32, 32) uint8 for 0..1, zero for words that the caption does not name."""
    model.eval()
    targets = []
    starts = range(0, len(bank), batch_size)
    for start in track(starts, total=len(starts), title="word targets", unit="batches"):
        photos = torch.from_numpy(bank.images[start : start + batch_size]).permute(0, 3, 1, 2).float()
        named = torch.tensor([[word in words for word in WORDS] for words in bank.words[start : start + batch_size]])
        maps = model(photos).masked_fill(~named[:, :, None, None], float("-inf"))
        targets.append((255 * maps.softmax(dim=1)).round().byte().numpy())
    return np.concatenate(targets)
