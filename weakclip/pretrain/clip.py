"""Pretraining of the mini CLIP on captions of generated scenes. No masks are seen.

* Caption loss: sigmoid loss between the class token's embedding and all texts of the batch (whole captions and single
  words); a text is right for every picture whose caption names all that it names (after SigLIP, Zhai et al. 2023).
* The stem, which turns pixels into tokens, is the mini encoder's up to stride 8, and stays as it is.
* Token loss: cross entropy of every patch token's softmax over all words with the targets of `weakclip.pretrain.teacher`, a
  small convolutional network taught by the same captions.

Half of the canvases are collages of four small pictures that share one canvas and its attention; the others show one
picture, zoomed and shifted, so that words come at all sizes.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import open_clip
import torch
from torch import Tensor, nn
from torch.nn import functional

from weakclip.clip.mini import MINI, TEXT, VISION, build_mini_clip
from weakclip.clip.model import mini_clip
from weakclip.clip.prompts import photo_of
from weakclip.datasets.mini import CLASS_NAMES, MINI_VERSION, clear_world
from weakclip.deeplab.encoders import MINI_WEIGHTS
from weakclip.mini_encoder import strided_stem
from weakclip.pretrain.canvases import GRID, WORDS, Canvases, ClipRecipe, compose, distort
from weakclip.pretrain.diagnosis import diagnose_mini_clip
from weakclip.pretrain.encoder import HEADS_WEIGHTS, WordMaps
from weakclip.pretrain.scenes import SceneBank, draw_bank
from weakclip.pretrain.teacher import load_word_maps, word_targets
from weakclip.resume import ResumeSlot, fingerprint
from weakclip.runlog import StepLog
from weakclip.seeding import rng, seed_torch
from weakclip.training import backward, cosine_schedule, train
from weakclip.weights import load_into, load_weights, save_weights


class Captioner(nn.Module):
    """The mini CLIP with the scales and biases of its losses. Its convolutional stem comes trained, and stays as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.clip = build_mini_clip()
        self.stem = self.clip.visual.conv1[:-1].requires_grad_(False)
        self.caption_scale = nn.Parameter(torch.tensor(10.0).log())
        self.caption_bias = nn.Parameter(torch.tensor(-2.0))
        self.token_scale = nn.Parameter(torch.tensor(10.0).log())
        self.helpers = nn.ModuleList(nn.Linear(VISION.width, len(WORDS)) for _ in range(VISION.layers - 1))
        with torch.no_grad():
            self.clip.visual.positional_embedding.copy_(sine_positions(GRID, VISION.width))
            for block in self.clip.visual.transformer.resblocks:
                look_around(block.attn)

    def train(self, mode: bool = True) -> Captioner:
        """Training mode, but for the stem, whose statistics stay."""
        super().train(mode)
        self.stem.eval()
        return self

    def encode_canvas(self, canvases: Tensor, visible: Tensor | None = None) -> tuple[Tensor, Tensor, list[Tensor]]:
        """(B, 3, 128, 128) normalised -> unit class-token embeddings (B, E), unit token embeddings (B, N, E), and what the
        helpers read in the tokens of every block but the last: logits [(B, N, words)].

        ``visible``: (B, N) places of the tokens to encode; all of them without it."""
        visual = self.clip.visual
        tokens, read = visual._embeds(canvases), []
        if visible is not None:
            tokens = torch.cat([tokens[:, :1], take(tokens[:, 1:], visible)], dim=1)
        for index, block in enumerate(visual.transformer.resblocks):
            tokens = block(tokens)
            if index < len(self.helpers):
                read.append(self.helpers[index](tokens[:, 1:]))
        embeddings = functional.normalize(visual.ln_post(tokens) @ visual.proj, dim=-1)
        return embeddings[:, 0], embeddings[:, 1:], read


def take(tokens: Tensor, places: Tensor) -> Tensor:
    """(B, M, C) tokens and (B, N) places -> (B, N, C)."""
    return tokens.gather(1, places[:, :, None].expand(-1, -1, tokens.shape[2]))


def look_around(attention: nn.MultiheadAttention, sharpness: float = 3.0) -> None:
    """Starts an attention layer near the identity: tokens look at tokens like themselves, which with sine positions means
    their neighbours, and take over a little of them (after Trockman and Kolter 2023, mimetic initialisation)."""
    width, heads = attention.embed_dim, attention.num_heads
    query, key = torch.empty(width, width), torch.empty(width, width)
    for head in range(heads):
        rows = slice(head * width // heads, (head + 1) * width // heads)
        mixed = 0.7 * torch.randn(width, width) / width**0.5 + 0.7 * torch.eye(width)
        left, size, right = torch.linalg.svd(mixed)
        rank = width // heads
        query[rows] = sharpness * (left[:, :rank] * size[:rank].sqrt()).T
        key[rows] = size[:rank].sqrt()[:, None] * right[:rank]
    attention.in_proj_weight[:width] = query
    attention.in_proj_weight[width : 2 * width] = key


def sine_positions(grid: int, width: int) -> Tensor:
    """Two-dimensional sine positions, (1 + grid^2, width), the class token's first and zero."""
    quarter = width // 4
    frequency = 1.0 / 100 ** (torch.arange(quarter) / quarter)
    angle = torch.arange(grid)[:, None] * frequency  # (grid, quarter)
    wave = torch.cat([angle.sin(), angle.cos()], dim=1)  # (grid, width / 2)
    rows = wave[:, None, :].expand(grid, grid, -1)
    columns = wave[None, :, :].expand(grid, grid, -1)
    positions = torch.cat([rows, columns], dim=-1).reshape(grid * grid, width)
    return torch.cat([torch.zeros(1, width), positions]) * 0.3


def phrase(word: str, draw: np.random.Generator) -> str:
    """A word, or a phrase around it."""
    article = f"a {word}" if word in CLASS_NAMES else word
    return (word, article, photo_of(word), f"a picture of {article}")[draw.integers(4)]


def word_loss(log_shares: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy of tokens (B, N, words) with their targets: half of it counts every token alike, half every word, so
    that words for small things are learnt as soon as those for grounds."""
    per_word = -(targets * log_shares).sum(dim=(0, 1))
    plain = per_word.sum() / targets.shape[:2].numel()
    cells = targets.sum(dim=(0, 1))
    seen = cells > 1
    return 0.5 * plain + 0.5 * (per_word[seen] / cells[seen]).mean()


def losses_of_canvases(
    model: Captioner, canvases: Canvases, recipe: ClipRecipe, step: int, tokenizer: open_clip.SimpleTokenizer
) -> dict[str, Tensor]:
    """Caption and token loss of a batch of canvases, weighted, by name."""
    draw = rng(recipe.seed, "phrases", step)
    words = [phrase(word, draw) for word in WORDS]
    chosen = draw.permutation(len(canvases.captions))[: recipe.canvases]
    sentences = [canvases.captions[index] for index in chosen]
    texts = model.clip.encode_text(tokenizer([*words, *(text for text, _ in sentences)], context_length=TEXT.context_length))
    texts = functional.normalize(texts, dim=-1)
    visible, targets = None, canvases.targets
    if step < recipe.sparse_share * recipe.iterations:
        order = draw.permuted(np.tile(np.arange(GRID**2), (recipe.canvases, 1)), axis=1)
        visible = torch.from_numpy(order[:, : GRID**2 // 2])
        targets = take(targets, visible)
    summary, tokens, read = model.encode_canvas(distort(canvases.pixels, draw), visible)
    shares = (model.token_scale.exp() * tokens @ texts[: len(WORDS)].T).log_softmax(dim=-1)
    token_loss = word_loss(shares, targets)
    helper_loss = torch.stack([word_loss(logits.log_softmax(dim=-1), targets) for logits in read]).mean()

    meaning = torch.from_numpy(np.concatenate([np.eye(len(WORDS), dtype=bool), np.stack([said for _, said in sentences])]))
    right = ~((meaning[None] & ~canvases.named[:, None]).any(dim=-1))  # (B, texts): the canvas has all that the text names
    similarity = model.caption_scale.exp() * summary @ texts.T + model.caption_bias
    caption_loss = functional.binary_cross_entropy_with_logits(similarity, right.float())
    return {"caption_loss": caption_loss, "token_loss": token_loss, "helper_loss": helper_loss}


def pretrain_clip(
    *,
    bank: SceneBank,
    teacher: WordMaps,
    recipe: ClipRecipe,
    folder: Path,
    out: Path,
    log: StepLog | None = None,
) -> None:
    """Trains the mini CLIP on the scenes of the bank, its tokens by the teacher; resumes from ``folder``.

    Writes ``out/mini_clip.safetensors`` (float16) with its card.
    """
    seed_torch(recipe.seed, "mini clip")
    model = Captioner()
    stem = strided_stem(teacher.encoder, VISION.width)[:-1]
    load_into(model.stem, stem.state_dict(), "the mini encoder")
    targets = word_targets(teacher, bank)
    tokenizer = open_clip.SimpleTokenizer(context_length=TEXT.context_length)
    scales = [model.caption_scale, model.caption_bias, model.token_scale]
    trained = [p for p in model.clip.parameters() if p.requires_grad]
    matrices = [p for p in [*trained, *model.helpers.parameters()] if p.ndim > 1]
    vectors = [p for p in [*trained, *model.helpers.parameters()] if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": recipe.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
            {"params": scales, "weight_decay": 0.0},
        ],
        lr=recipe.lr,
        betas=(0.9, 0.98),
    )

    def rates(step: int) -> list[float]:
        rate = cosine_schedule(step, lr=recipe.lr, iterations=recipe.iterations, warmup=recipe.warmup)
        return [rate, rate, 5 * rate]

    train(
        title="mini CLIP",
        modules={"model": model},
        optimizer=optimizer,
        iterations=recipe.iterations,
        gradients_of_step=lambda step: backward(
            losses_of_canvases(model.train(), compose(bank, targets, recipe, step), recipe, step, tokenizer)
        ),
        rates_of_step=rates,
        names_of_step=lambda step: [f"step {step} of world {recipe.world}"],
        folder=folder,
        checkpoint_every=100,
        log=log,
    )
    save_mini_clip(model, recipe, tokenizer, out)


def save_mini_clip(model: Captioner, recipe: ClipRecipe, tokenizer: open_clip.SimpleTokenizer, out: Path) -> None:
    """Stores the network in float16 with its card; rows of tokens that no caption uses become zero."""
    state = {key: value.half() if value.is_floating_point() else value for key, value in model.clip.state_dict().items()}
    known = torch.zeros(TEXT.vocab_size, dtype=torch.bool)
    sentences = [f"a photo of a {word}, a picture of a {word} on {word} before {word} and {word}" for word in WORDS]
    known[tokenizer(sentences, context_length=TEXT.context_length).unique()] = True
    state["token_embedding.weight"][~known] = 0
    state["logit_scale"] = model.token_scale.detach().half()
    card: dict[str, object] = {
        "model": MINI,
        "generator": MINI_VERSION,
        "recipe": asdict(recipe),
        "words": list(WORDS),
        "supervision": "captions, no masks",
    }
    save_weights(out, "mini_clip", state, card)


def main(*, seed: int, iterations: int | None, out: Path) -> None:
    """The command `weakclip pretrain-mini clip`: word targets from the mini encoder in ``out``, then the training. One that was
    killed goes on, if it was of the same recipe and encoder."""
    recipe = ClipRecipe(seed=seed) if iterations is None else ClipRecipe(seed=seed, iterations=iterations)
    world = clear_world(recipe.world, recipe.context_probability)
    teacher = load_word_maps(out)
    taught_by = [out / f"{MINI_WEIGHTS}.json", out / f"{HEADS_WEIGHTS}.json"]
    stage = "pretrain_mini_clip"
    slot = ResumeSlot.open(stage, fingerprint(stage=stage, params=asdict(recipe), inputs=taught_by, code=[]))
    bank = draw_bank(world, "pretrain", recipe.scenes)
    pretrain_clip(bank=bank, teacher=teacher, recipe=recipe, folder=slot.folder, out=out)
    state, card = load_weights(out, "mini_clip")
    del card["weights_sha256"]
    network = build_mini_clip()
    load_into(network, state, "the mini CLIP")
    figures = diagnose_mini_clip(mini_clip(network), recipe.context_probability)
    save_weights(out, "mini_clip", state, card | {"development": figures})
    slot.close()
