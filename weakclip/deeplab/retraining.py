"""Training of DeepLab on masks: refined or gated ones, or true ones for the upper bound."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from weakclip.datasets.index import ClassList
from weakclip.deeplab.averaging import MovingAverage
from weakclip.deeplab.encoders import weights_source
from weakclip.deeplab.examples import Batch, Batches, Example, read_example
from weakclip.deeplab.model import build_deeplab, network_card
from weakclip.deeplab.network import DeepLab
from weakclip.deeplab.prediction import WEIGHTS, predict_batch
from weakclip.deeplab.recipe import Retraining
from weakclip.device import arithmetic, device, from_host
from weakclip.errors import WeakClipError
from weakclip.evaluation import Confusion, confusion_matrix, mean_iou, percent
from weakclip.pixel_loss import PLAIN, PixelLoss
from weakclip.ranks import leave_to_main, world
from weakclip.runlog import StepLog
from weakclip.seeding import rng, seed_torch
from weakclip.training import backward, train
from weakclip.weights import save_weights

VALIDATION_IMAGES: Final = 200
VALIDATION_BATCH: Final = 16


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
    where there are no true masks. With ``settings.ema`` what is validated and saved is the moving average of the weights. Ranks
    train together; only the main one returns.
    """
    part = world().part(settings.batch_size, "deeplab.batch_size")
    seed_torch(seed, "deeplab")
    model = build_deeplab(
        network=settings.network,
        encoder=settings.encoder,
        encoder_weights=settings.encoder_weights,
        num_classes=classes.num_classes,
        output_stride=settings.output_stride,
    ).to(device())
    check_crop(settings, model)
    recipe = model.recipe(settings, len(examples))
    modules: dict[str, nn.Module] = {"deeplab": model}
    final = model
    if settings.ema > 0:
        average = MovingAverage(model, settings.ema)
        recipe.optimizer.register_step_post_hook(lambda *_: average.update(model))
        modules["average"], final = average, average.network
    pixel_loss = settings.pixel_loss(recipe.loss_stride)
    shown = validation_subset(validation)
    figures: dict[str, float] = {}

    def validate(step: int) -> dict[str, float]:
        confusion = validation_confusion(final.eval(), shown, classes.num_classes)
        figures["val_miou"] = percent(mean_iou(confusion))
        return dict(figures)

    batches = Batches(
        examples,
        augment=recipe.augment,
        batch_size=settings.batch_size,
        num_classes=classes.num_classes,
        seed=seed,
        part=part,
    )
    with batches:

        def losses(step: int) -> dict[str, Tensor]:
            seed_torch(seed, "deeplab dropout", step)
            recipe.set_training(step)
            draw = rng(seed, "deeplab loss", step)
            loss = loss_of_batch(model, batches.batch(step), recipe.loss_stride, draw, pixel_loss, settings.precision)
            return {"cross_entropy": loss}

        train(
            title=f"DeepLab on {len(examples):,} photos",
            modules=modules,
            optimizer=recipe.optimizer,
            iterations=settings.iterations,
            gradients_of_step=lambda step: backward(losses(step)),
            rates_of_step=recipe.rates_of_step,
            names_of_step=batches.names,
            folder=folder,
            checkpoint_every=settings.checkpoint_every,
            log=log,
            validate=validate if shown else None,
            validate_every=settings.validate_every,
        )
    leave_to_main()
    if shown and not figures:  # the run was killed between its last step and its end
        validate(settings.iterations)
    save_weights(out, WEIGHTS, final.state_dict(), card(settings, model, classes, seed, len(examples)))
    return figures


def check_crop(settings: Retraining, model: DeepLab) -> None:
    """Raises `WeakClipError` where the network does not take crops of this size."""
    size, multiple = settings.crop_size, model.multiple
    if size % multiple:
        both = math.lcm(multiple, settings.output_stride)  # `weakclip.params` wants the other
        near = max(1, round(size / both)) * both
        problem = f"deeplab.crop_size {size} is not a multiple of {multiple}, which {settings.encoder!r} needs"
        raise WeakClipError(problem, f"set deeplab.crop_size to {near}")


def card(settings: Retraining, model: DeepLab, classes: ClassList, seed: int, photos: int) -> dict[str, object]:
    """What the card of the weights says: the network, what it started from, and how it was trained."""
    settings_of_training = asdict(settings)
    for known in ("network", "encoder", "encoder_weights", "output_stride"):
        del settings_of_training[known]
    return {
        **network_card(model, settings.network, settings.encoder, settings.output_stride, classes),
        "encoder_weights": weights_source(settings.encoder_weights),
        "photos": photos,
        "seed": seed,
        "training": settings_of_training,
    }


def loss_of_batch(
    model: DeepLab,
    batch: Batch,
    stride: int,
    draw: np.random.Generator,
    pixel_loss: PixelLoss = PLAIN,
    precision: str = "float32",
) -> Tensor:
    """Cross entropy, or another ``pixel_loss``, on the logits enlarged to the masks, on one row and one column in ``stride``.

    Which ones is random, so the mean stays the same at a fraction of the cost. ``precision``: what the network computes in,
    float32 or bfloat16; the loss is float32.
    """
    where = model.mean.device
    photos = from_host(torch.from_numpy(batch.photos), where).permute(0, 3, 1, 2).float()
    top, left = draw.integers(stride, size=2)
    masks = from_host(torch.from_numpy(np.ascontiguousarray(batch.masks[:, top::stride, left::stride])), where)
    with arithmetic(precision):
        logits = model(photos)
    logits = model.enlarge(logits.float(), *masks.shape[1:])
    return pixel_loss(logits.contiguous(), masks.long())


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
