"""Training of DeepLab on masks: refined or gated ones, or true ones for the upper bound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from weakclip.datasets.index import ClassList
from weakclip.deeplab.augmentation import Augmentation
from weakclip.deeplab.encoders import weights_source
from weakclip.deeplab.examples import Batch, Batches, Example, read_example
from weakclip.deeplab.model import DeepLab, build_deeplab, enlarge
from weakclip.deeplab.prediction import WEIGHTS, predict_batch
from weakclip.device import device
from weakclip.evaluation import Confusion, confusion_matrix, mean_iou, percent
from weakclip.masks import IGNORE
from weakclip.runlog import StepLog
from weakclip.seeding import rng, seed_torch
from weakclip.training import polynomial_schedule, train
from weakclip.weights import save_weights

WARMUP: Final = 20  # steps over which the rate rises
SMALL_BATCH: Final = 8  # below it, batch statistics are too noisy to replace those of a pretrained encoder
LOSS_STRIDE: Final = 2
VALIDATION_IMAGES: Final = 200
VALIDATION_BATCH: Final = 16


@dataclass(frozen=True, kw_only=True)
class Retraining:
    """What makes a DeepLab what it is. See `params.yaml`, section deeplab, for the meaning and the paper's values."""

    network: str
    encoder: str
    encoder_weights: str
    output_stride: int
    iterations: int
    batch_size: int
    lr: float
    encoder_lr_factor: float
    weight_decay: float
    crop_size: int
    scale: tuple[float, float]
    colour: float
    validate_every: int
    checkpoint_every: int


def retrain(
    settings: Retraining,
    examples: Sequence[Example],
    validation: Sequence[Example],
    classes: ClassList,
    *,
    seed: int,
    folder: Path,
    out: Path,
    log: StepLog | None = None,
) -> dict[str, float]:
    """Trains a DeepLab and writes ``out/deeplab.safetensors`` with its card.

    ``validation``: photos with true masks that are only looked at (at most 200 of them), never chosen by. ``folder`` keeps the
    checkpoint from which a killed run goes on, to the same bytes. Returns the last ``val_miou`` in percent, or nothing
    where there are no true masks.
    """
    seed_torch(seed, "deeplab")
    model = build_deeplab(
        network=settings.network,
        encoder=settings.encoder,
        encoder_weights=settings.encoder_weights,
        num_classes=classes.num_classes,
        output_stride=settings.output_stride,
    ).to(device())
    augmentation = Augmentation(crop_size=settings.crop_size, scale=settings.scale, colour=settings.colour, fill=model.fill)
    shown = validation_subset(validation)
    figures: dict[str, float] = {}

    def validate(step: int) -> dict[str, float]:
        confusion = validation_confusion(model.eval(), shown, classes.num_classes)
        figures["val_miou"] = percent(mean_iou(confusion))
        return dict(figures)

    batches = Batches(
        examples, augmentation=augmentation, batch_size=settings.batch_size, num_classes=classes.num_classes, seed=seed
    )
    with batches:

        def losses(step: int) -> dict[str, Tensor]:
            seed_torch(seed, "deeplab dropout", step)
            set_training(model, settings.batch_size, pretrained=settings.encoder_weights != "none")
            return {"cross_entropy": loss_of_batch(model, batches.batch(step), rng(seed, "deeplab loss", step))}

        def rates(step: int) -> list[float]:
            rate = min(1.0, (step + 1) / WARMUP) * polynomial_schedule(step, lr=settings.lr, iterations=settings.iterations)
            return [rate, rate, rate * settings.encoder_lr_factor, rate * settings.encoder_lr_factor]

        train(
            title=f"DeepLab on {len(examples):,} photos",
            modules={"deeplab": model},
            optimizer=torch.optim.AdamW(parameter_groups(model, settings), lr=settings.lr, fused=True),
            iterations=settings.iterations,
            losses_of_step=losses,
            rates_of_step=rates,
            names_of_step=batches.names,
            folder=folder,
            checkpoint_every=settings.checkpoint_every,
            log=log,
            validate=validate if shown else None,
            validate_every=settings.validate_every,
        )
    if shown and not figures:  # the run was killed between its last step and its end
        validate(settings.iterations)
    save_weights(out, WEIGHTS, model.state_dict(), card(settings, model, classes, seed, len(examples)))
    return figures


def card(settings: Retraining, model: DeepLab, classes: ClassList, seed: int, photos: int) -> dict[str, object]:
    settings_of_training = asdict(settings)
    for known in ("network", "encoder", "encoder_weights", "output_stride"):
        del settings_of_training[known]
    return {
        "network": settings.network,
        "encoder": settings.encoder,
        "encoder_weights": weights_source(settings.encoder_weights),
        "output_stride": settings.output_stride,
        "num_classes": classes.num_classes,
        "classes": list(classes.with_background),
        "input": "RGB pixel values 0..255, normalised by the network",
        "mean_colour": list(model.fill),
        "photos": photos,
        "seed": seed,
        "training": settings_of_training,
    }


def parameter_groups(model: DeepLab, settings: Retraining) -> list[dict[str, object]]:
    """Matrices and vectors of decoder and head, then those of the encoder; norms and biases do not decay."""
    inner = list(model.encoder.parameters())
    known = {id(parameter) for parameter in inner}
    outer = [parameter for parameter in model.parameters() if id(parameter) not in known]
    return [
        {"params": [p for p in part if (p.ndim > 1) == matrices], "weight_decay": settings.weight_decay if matrices else 0.0}
        for part in (outer, inner)
        for matrices in (True, False)
    ]


def set_training(model: DeepLab, batch_size: int, *, pretrained: bool) -> None:
    """Training mode, with batch norms that suit the batch.

    In small batches a pretrained encoder keeps its statistics. In a batch of one, the norm behind global pooling has a single
    value per channel and nothing to divide by, so it keeps its own as well.
    """
    model.train()
    if pretrained and batch_size < SMALL_BATCH:
        _freeze_statistics(model.encoder)
    if batch_size == 1:
        for module in model.decoder.modules():
            if any(isinstance(child, nn.AdaptiveAvgPool2d) for child in module.children()):
                _freeze_statistics(module)


def _freeze_statistics(module: nn.Module) -> None:
    for child in module.modules():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            child.eval()


def loss_of_batch(model: DeepLab, batch: Batch, draw: np.random.Generator) -> Tensor:
    """Cross entropy on every second row and column, from 0 or 1 at random: a quarter of the cost, the same mean.

    The logits have stride 4, so the pixels between say little more.
    """
    where = model.mean.device
    photos = torch.from_numpy(batch.photos).to(where).permute(0, 3, 1, 2).float()
    logits = model(photos)
    top, left = draw.integers(LOSS_STRIDE, size=2)
    masks = torch.from_numpy(np.ascontiguousarray(batch.masks[:, top::LOSS_STRIDE, left::LOSS_STRIDE])).to(where)
    if logits.shape[-2:] != masks.shape[1:]:
        logits = enlarge(logits, *masks.shape[1:])
    return masked_cross_entropy(logits.contiguous(), masks.long())


def masked_cross_entropy(logits: Tensor, masks: Tensor) -> Tensor:
    """Mean over the pixels that are not 255; 0, with a gradient of 0, when all are.

    ``logits``: (B, K, H, W). ``masks``: (B, H, W) int64.
    """
    total = functional.cross_entropy(logits, masks, ignore_index=IGNORE, reduction="sum")
    return total / (masks != IGNORE).sum().clamp_min(1)


def validation_subset(examples: Sequence[Example]) -> tuple[Example, ...]:
    """At most 200 of them, evenly spread over the list, those of one size together."""
    count = min(len(examples), VALIDATION_IMAGES)
    spread = [examples[index * len(examples) // count] for index in range(count)]
    return tuple(sorted(spread, key=lambda example: (example.height, example.width)))


def validation_confusion(model: DeepLab, examples: Sequence[Example], num_classes: int) -> Confusion:
    """Counts at the photos' own scale, one view each; (K, K + 1)."""
    total = np.zeros((num_classes, num_classes + 1), np.int64)
    for _, same_size in groupby(examples, key=lambda example: (example.height, example.width)):
        group = list(same_size)
        for start in range(0, len(group), VALIDATION_BATCH):
            read = [read_example(example, num_classes) for example in group[start : start + VALIDATION_BATCH]]
            photos: NDArray[np.uint8] = np.stack([photo for photo, _ in read])
            winners = predict_batch(model, photos, scales=(1.0,), flip=False).argmax(axis=1).astype(np.uint8)
            for winner, (_, truth) in zip(winners, read, strict=True):
                total += confusion_matrix(winner, truth, num_classes)
    return total
