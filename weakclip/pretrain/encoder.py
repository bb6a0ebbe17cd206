"""Pretraining of the mini segmentation encoder on the captions of generated scenes; masks are never seen.

It stands in for ImageNet weights. A caption names everything in its picture, so every cell of the encoder's maps must be one
of the named words (token loss), and every named word must have some cells (presence loss; see
`weakclip.pretrain.partial_labels`), over a classifier on the maps of strides 4, 8 and 16, which is stored apart.

The first part of the run sees whole pictures at half size, which teaches words four times as fast. The second part sees
canvases of full size, every other one a collage of four half-size pictures whose cells answer to their own captions.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn
from torch.nn import functional

from weakclip.datasets.mini import BACKGROUND_WORDS, CLASS_NAMES, MINI_VERSION, clear_world
from weakclip.deeplab.augmentation import distort_colour
from weakclip.deeplab.encoders import MINI_WEIGHTS
from weakclip.mini_encoder import MiniEncoder
from weakclip.pretrain.partial_labels import token_losses
from weakclip.pretrain.scenes import SceneBank, draw_bank
from weakclip.resume import ResumeSlot, fingerprint
from weakclip.runlog import StepLog
from weakclip.seeding import rng, seed_torch
from weakclip.training import backward, cosine_schedule, train
from weakclip.weights import save_weights

WORDS: Final = CLASS_NAMES + BACKGROUND_WORDS
SIDE: Final = 128
HALF: Final = SIDE // 2
HEADS_WEIGHTS: Final = "mini_word_heads"
HEAD_STAGES: Final = 3  # the maps of strides 4, 8 and 16
CHECKPOINT_EVERY: Final = 100  # steps


@dataclass(frozen=True, kw_only=True)
class EncoderRecipe:
    """``world``: seed of the mini world to draw from, never one that is scored. ``context_probability``: looser contexts than
    in the scored worlds. ``small_share``: share of the steps with half-size pictures, ``small_batch`` of them in a step.
    ``extent``: smallest side of a crop as a share of the picture. ``presence_share``: share of a picture's cells that a named
    word must have."""

    seed: int = 0
    iterations: int = 2200
    world: int = 1000
    context_probability: float = 0.6
    scenes: int = 12000
    held_out: int = 400
    batch: int = 16
    small_batch: int = 64
    small_share: float = 0.6
    extent: float = 0.65
    colour: float = 0.2
    lr: float = 3.0e-3
    warmup: int = 50
    weight_decay: float = 0.02
    presence_share: float = 0.06


class WordMaps(nn.Module):
    """The encoder with a linear classifier over all words on its maps: (B, 3, H, W) pixels 0..255 -> (B, words, H/4, W/4)."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.encoder = MiniEncoder()
        self.heads = nn.ModuleList(nn.Conv2d(width, len(WORDS), 1) for width in self.encoder.out_channels[-HEAD_STAGES:])
        self.register_buffer("mean", 255 * torch.tensor(IMAGENET_DEFAULT_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(IMAGENET_DEFAULT_STD).view(3, 1, 1), persistent=False)
        self.to(memory_format=torch.channels_last)

    def forward(self, photos: Tensor) -> Tensor:
        inputs = ((photos - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        maps = [head(cells) for head, cells in zip(self.heads, self.encoder(inputs)[-HEAD_STAGES:], strict=True)]
        size = maps[0].shape[-2:]
        coarse = [functional.interpolate(cells, size=size, mode="bilinear", align_corners=False) for cells in maps[1:]]
        return torch.stack([maps[0], *coarse]).sum(dim=0)


@dataclass(frozen=True)
class Canvases:
    """``pixels``: (B, S, S, 3) uint8. ``named``: (B * grid^2, words) bool, a row per picture. ``grid``: pictures a side."""

    pixels: NDArray[np.uint8]
    named: NDArray[np.bool_]
    grid: int


def compose(images: NDArray[np.uint8], named: NDArray[np.bool_], recipe: EncoderRecipe, step: int) -> Canvases:
    """The canvases of a step: half-size pictures at first, then whole pictures and collages of four by turns.

    ``images``: (n, 128, 128, 3) uint8. ``named``: (n, words) bool.
    """
    draw = rng(recipe.seed, "encoder", step)
    small = step < recipe.small_share * recipe.iterations
    grid = 1 if small or step % 2 else 2
    count = recipe.small_batch if small else recipe.batch
    side = HALF if small or grid == 2 else SIDE
    chosen = draw.integers(len(images), size=count * grid * grid)
    pictures = np.stack([view(images[index], side, recipe, draw) for index in chosen])
    rows = pictures.reshape(count, grid, grid, side, side, 3).transpose(0, 1, 3, 2, 4, 5)
    return Canvases(np.ascontiguousarray(rows.reshape(count, grid * side, grid * side, 3)), named[chosen], grid)


def view(image: NDArray[np.uint8], side: int, recipe: EncoderRecipe, draw: np.random.Generator) -> NDArray[np.uint8]:
    """A random part of a picture at (side, side), perhaps mirrored, with other colours."""
    height, width = image.shape[0] * draw.uniform(recipe.extent, 1.0) * np.clip(draw.uniform(0.9, 1.1, 2), None, 1.0)
    top, left = draw.uniform(0, 1, 2) * (image.shape[0] - height, image.shape[1] - width)
    box = (left, top, left + width, top + height)
    part = np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR, box=box))
    return distort_colour(part[:, ::-1] if draw.random() < 0.5 else part, recipe.colour, draw)


def by_picture(maps: Tensor, grid: int) -> Tensor:
    """Cells of each picture on a canvas: (B, words, h, w) -> (B * grid^2, cells, words), in the order of `compose`."""
    batch, words, height, width = maps.shape
    tiles = maps.reshape(batch, words, grid, height // grid, grid, width // grid).permute(0, 2, 4, 3, 5, 1)
    return tiles.reshape(batch * grid * grid, -1, words)


def losses_of_canvases(model: WordMaps, canvases: Canvases, recipe: EncoderRecipe) -> dict[str, Tensor]:
    """Token and presence loss of a batch of canvases, by name."""
    maps = model(torch.from_numpy(canvases.pixels).permute(0, 3, 1, 2).float())
    cells = by_picture(maps, canvases.grid)
    token, presence = token_losses(cells, torch.from_numpy(canvases.named), presence_share=recipe.presence_share)
    return {"token_loss": token, "presence_loss": presence}


def tag_map(model: WordMaps, images: NDArray[np.uint8], named: NDArray[np.bool_], recipe: EncoderRecipe) -> float:
    """Mean average precision of the class tags, 0..1: pictures ranked by a class's mean share over its best cells.

    ``images``: (n, H, W, 3). ``named``: (n, words), which words each picture's caption names.
    """
    model.eval()
    scores = []
    with torch.inference_mode():
        for start in range(0, len(images), 32):
            photos = torch.from_numpy(images[start : start + 32]).permute(0, 3, 1, 2).float()
            share = by_picture(model(photos), 1).softmax(dim=-1)
            best = max(1, int(recipe.presence_share * share.shape[1]))
            scores.append(share.topk(best, dim=1).values.mean(dim=1))
    ranked = torch.cat(scores).numpy()
    present = [column for column in range(len(CLASS_NAMES)) if named[:, column].any()]
    return float(np.mean([average_precision(ranked[:, column], named[:, column]) for column in present]))


def average_precision(scores: NDArray[np.float32], relevant: NDArray[np.bool_]) -> float:
    """Mean over the relevant items (n,) of the precision at their rank; equal scores keep their order."""
    hits = relevant[np.argsort(-scores, kind="stable")]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(precision[hits].mean())


def named_words(bank: SceneBank) -> NDArray[np.bool_]:
    """(scenes, words) bool: which words a scene's caption names."""
    return np.array([[word in words for word in WORDS] for words in bank.words])


def pretrain_encoder(*, recipe: EncoderRecipe, folder: Path, out: Path, log: StepLog | None = None) -> float:
    """Trains the mini encoder and writes ``out/mini_encoder.safetensors`` (float16) with its card.

    ``folder`` keeps the checkpoint from which a killed run goes on. Returns the held-out tag mAP, 0..1.
    """
    seed_torch(recipe.seed, "mini encoder")
    model = WordMaps()
    world = clear_world(recipe.world, recipe.context_probability)
    bank, unseen = (draw_bank(world, stream, n) for stream, n in (("pretrain", recipe.scenes), ("held out", recipe.held_out)))
    named = named_words(bank)
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": recipe.weight_decay},
            {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=recipe.lr,
    )

    def rates(step: int) -> list[float]:
        return [cosine_schedule(step, lr=recipe.lr, iterations=recipe.iterations, warmup=recipe.warmup)] * 2

    train(
        title="mini encoder",
        modules={"model": model},
        optimizer=optimizer,
        iterations=recipe.iterations,
        gradients_of_step=lambda step: backward(
            losses_of_canvases(model.train(), compose(bank.images, named, recipe, step), recipe)
        ),
        rates_of_step=rates,
        names_of_step=lambda step: [f"step {step} of world {recipe.world}"],
        folder=folder,
        checkpoint_every=CHECKPOINT_EVERY,
        log=log,
    )
    figure = tag_map(model, unseen.images, named_words(unseen), recipe)
    card: dict[str, object] = {
        "encoder": "mini",
        "generator": MINI_VERSION,
        "recipe": asdict(recipe),
        "words": list(WORDS),
        "supervision": "captions: image-level words, no masks",
        "held_out": {"tag_map": round(figure, 4), "n": recipe.held_out},
    }
    save_weights(out, MINI_WEIGHTS, half(model.encoder), card)
    save_weights(out, HEADS_WEIGHTS, half(model.heads), {"kind": "word heads of the mini encoder", "words": list(WORDS)})
    return figure


def half(module: nn.Module) -> dict[str, Tensor]:
    """The state in float16, counters as they are."""
    return {key: value.half() if value.is_floating_point() else value for key, value in module.state_dict().items()}


def main(*, seed: int, iterations: int | None, out: Path) -> None:
    """The command `weakclip pretrain-mini encoder`; one that was killed goes on, if it was of the same recipe."""
    recipe = EncoderRecipe(seed=seed) if iterations is None else EncoderRecipe(seed=seed, iterations=iterations)
    stage = "pretrain_mini_encoder"
    slot = ResumeSlot.open(stage, fingerprint(stage=stage, params=asdict(recipe), inputs=[], code=[]))
    pretrain_encoder(recipe=recipe, folder=slot.folder, out=out)
    slot.close()
