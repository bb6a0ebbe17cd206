"""Training WeakCLIP on seeds: the loop's pieces, and a validation that needs no masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from weakclip.boundary_crf import InferCrfs, start_crfs
from weakclip.datasets.index import Record
from weakclip.device import device, from_host
from weakclip.evaluation import confusion_matrix, mean_iou, percent
from weakclip.features.store import FeatureStore
from weakclip.features.views import render_photo
from weakclip.heap import give_back
from weakclip.images import read_photo
from weakclip.masks import read_mask
from weakclip.network.weakclip import WeakClip
from weakclip.objective import Objective, add_gradients, start_boundary_crfs
from weakclip.prefetch import Prefetcher
from weakclip.process_pool import KeptProcesses
from weakclip.runlog import StepLog
from weakclip.seeding import seed_torch
from weakclip.supervision import Batch
from weakclip.training import cosine_schedule, train
from weakclip.workers import workers


@dataclass(frozen=True, kw_only=True)
class AdaptationSchedule:
    """``lr``: peak, reached after ``warmup`` steps; then a cosine. ``micro_batches``: see `objective.add_gradients`."""

    lr: float
    iterations: int
    warmup: int
    weight_decay: float
    validate_every: int
    checkpoint_every: int
    micro_batches: int = 1


class TrainablePart(nn.Module):
    """What of WeakCLIP is trained, for checkpoints: a frozen CLIP is not stored with every one of them."""

    def __init__(self, model: WeakClip) -> None:
        super().__init__()
        self.model = [model]  # in a list, so that its frozen parameters are not registered here

    def state_dict(self, *args: object, **kwargs: object) -> dict[str, Tensor]:  # type: ignore[override]
        """`WeakClip.trainable_state`."""
        return self.model[0].trainable_state()

    def load_state_dict(self, state: dict[str, Tensor], *args: object, **kwargs: object) -> None:  # type: ignore[override]
        """Load what `state_dict` gave; the frozen part stays as it is."""
        self.model[0].load_state_dict(state, strict=False)


def parameter_groups(model: WeakClip, weight_decay: float) -> list[dict[str, object]]:
    """Matrices decay; vectors, norms and contexts do not."""
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    decayed = [p for name, p in trained if p.ndim > 1 and "contexts" not in name]
    kept = [p for name, p in trained if p.ndim <= 1 or "contexts" in name]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": kept, "weight_decay": 0.0}]


def one_rate(step: int, schedule: AdaptationSchedule) -> list[float]:
    """The same rate for both of `parameter_groups`: linear warm-up, then a cosine to zero."""
    return [cosine_schedule(step, lr=schedule.lr, iterations=schedule.iterations, warmup=schedule.warmup)] * 2


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """Which parameters are trained in one group, with which weight decay, and at which rate each group is at a step."""

    groups: Callable[[WeakClip, float], list[dict[str, object]]] = parameter_groups
    rates: Callable[[int, AdaptationSchedule], list[float]] = one_rate


def adapt(
    model: WeakClip,
    make_batch: Prefetcher[Batch],
    objective: Objective,
    schedule: AdaptationSchedule,
    validation: Validation,
    *,
    seed: int,
    folder: Path,
    log: StepLog,
    tuning: Tuning = Tuning(),
) -> None:
    """Trains the model in place; resumes from ``folder``. ``seed``: of the dropout."""
    model.to(device())
    optimizer = torch.optim.AdamW(tuning.groups(model, schedule.weight_decay), lr=schedule.lr, foreach=True)
    names: dict[int, list[str]] = {}
    target, texts = device(), model.fixed_texts()

    beside = schedule.micro_batches > 1
    processes = KeptProcesses(workers(), apart=beside)
    start_in_processes = start_crfs(processes)
    started: dict[int, list[InferCrfs]] = {}

    def start(step: int, batch: Batch) -> None:
        started[step] = start_boundary_crfs(model.num_classes, batch, objective, start_in_processes, schedule.micro_batches)

    def start_next(step: int) -> None:
        """Once this step's inferences are sent, for after them the processes beside the network would have nothing to do; a
        batch that is not made by then starts with its own step."""
        following = make_batch.made(step + 1) if beside else None
        if following is not None:
            start(step + 1, following)

    def gradients(step: int) -> dict[str, Tensor]:
        if model.recompute:
            give_back()  # what the last step has freed, or the room that differing steps have used adds up
        seed_torch(seed, "weakclip dropout", step)
        batch = make_batch(step)
        names.clear()
        names[step] = batch.names
        if step not in started:
            start(step, batch)
        batch = batch.to(target)
        crfs, then = started.pop(step), partial(start_next, step)
        return add_gradients(model.train(), batch, objective, crfs, texts, schedule.micro_batches, then)

    with processes:
        train(
            title="WeakCLIP",
            modules={"model": TrainablePart(model)},
            optimizer=optimizer,
            iterations=schedule.iterations,
            gradients_of_step=gradients,
            rates_of_step=lambda step: tuning.rates(step, schedule),
            names_of_step=lambda step: names[step],
            folder=folder,
            checkpoint_every=schedule.checkpoint_every,
            log=log,
            validate=lambda step: validation(model),
            validate_every=schedule.validate_every,
        )


@dataclass(frozen=True, kw_only=True)
class Validation:
    """Agreement on held-out training images, at the size of the loss; with true masks where there are any.

    ``held_out_agreement``: mIoU of prediction and seed. ``held_out_miou``: mIoU of prediction and truth.
    Both in percent, predictions limited to the tags.
    """

    records: Sequence[Record]
    store: FeatureStore
    seed_folder: Path
    num_classes: int

    def __call__(self, model: WeakClip) -> dict[str, float]:
        if not self.records:
            return {}
        model.eval()
        agreement = np.zeros((self.num_classes, self.num_classes + 1), np.int64)
        truth = agreement.copy()
        with torch.inference_mode():
            texts = model.text_encoder()
            for record in self.records:
                prediction = self._predict(model, texts, record)
                agreement += confusion_matrix(
                    prediction, read_mask(self.seed_folder / f"{record.image_id}.png"), self.num_classes
                )
                if record.mask is not None:
                    truth += confusion_matrix(prediction, read_mask(record.mask), self.num_classes)
        figures = {"held_out_agreement": percent(mean_iou(agreement))}
        return figures | ({"held_out_miou": percent(mean_iou(truth))} if truth.any() else {})

    def _predict(self, model: WeakClip, texts: Tensor, record: Record) -> NDArray[np.uint8]:
        row = self.store.whole_rows(record.image_id)[0]
        view = self.store.view(row)
        if model.encoder is None:
            stored = sorted(self.store.read(row, self.store.all_blocks).items())
            blocks = [from_host(torch.from_numpy(tokens[None].astype(np.float32)), device()) for _, tokens in stored]
        else:  # it has moved away from what the store holds
            photo = render_photo(read_photo(record.photo, record.crc32), view)
            blocks = model.encode(torch.from_numpy(photo)[None].permute(0, 3, 1, 2))
        logits, _ = model(blocks, view.height // self.store.patch, view.width // self.store.patch, texts)
        present = [0, *record.tags]
        full = functional.interpolate(
            logits[:, present], size=(record.height, record.width), mode="bilinear", align_corners=False
        )
        labels: NDArray[np.uint8] = np.asarray(present, np.uint8)[full[0].argmax(dim=0).cpu().numpy()]
        return labels
