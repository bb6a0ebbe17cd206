"""Training WeakCLIP on a tiny drawn dataset, with its true masks as seeds."""

import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from weakclip import adaptation
from weakclip.adaptation import AdaptationSchedule, Validation, adapt, parameter_groups
from weakclip.boundary_crf import InferCrfs, StartCrfs, start_crfs
from weakclip.clip.model import load_clip
from weakclip.clip.text_encoder import TextEncoder
from weakclip.crf import CrfKernel
from weakclip.datasets.index import Dataset, read_dataset
from weakclip.errors import WeakClipError
from weakclip.features.store import FeatureStore
from weakclip.masks import IGNORE, read_mask, write_mask
from weakclip.network.weakclip import WeakClip, WeakClipSizes, build_weakclip
from weakclip.objective import Objective, add_gradients
from weakclip.prefetch import Prefetcher
from weakclip.process_pool import KeptProcesses, WorkerDiedError
from weakclip.runlog import StepLog
from weakclip.supervision import Batch, CachedViews, batch_maker

SEEDS = Path("data/cam/seeds")
SIZES = WeakClipSizes(
    context_length=2, pyramid_adapter=True, co_attention=True, decoder_width=16, decoder_layers=1, decoder_heads=2, channels=16
)
KERNEL = CrfKernel(gaussian_sxy=1, gaussian_compat=3, bilateral_sxy=10, bilateral_srgb=13, bilateral_compat=5, iterations=2)


@pytest.fixture
def dataset(workspace: Path) -> Dataset:
    return read_dataset(Path("data/dataset"))


def build(dataset: Dataset, sizes: WeakClipSizes = SIZES) -> WeakClip:
    torch.manual_seed(0)
    classes = dataset.classes
    return build_weakclip(
        load_clip("mini", "mini"),
        class_names=classes.names,
        synonyms=classes.synonyms,
        background_words=classes.background_words,
        sizes=sizes,
    )


def objective(boundary_weight: float) -> Objective:
    return Objective(boundary_weight=boundary_weight, boundary_kernel=KERNEL, score_map_weight=0.4, score_map_temperature=0.07)


def batches(dataset: Dataset) -> Callable[[int], Batch]:
    views = CachedViews(FeatureStore(Path("data/features")))
    return batch_maker(dataset.training[:8], views, SEEDS, batch_size=4, seed=0, size=32, patch=8)


def validation(dataset: Dataset) -> Validation:
    return Validation(
        records=dataset.training[8:],
        store=FeatureStore(Path("data/features")),
        seed_folder=SEEDS,
        num_classes=dataset.classes.num_classes,
    )


def run(
    dataset: Dataset,
    folder: Path,
    *,
    iterations: int,
    lr: float = 3e-3,
    boundary_weight: float = 0.0,
    stop_at: int | None = None,
    sizes: WeakClipSizes = SIZES,
    micro_batches: int = 1,
    prefetcher: type[Prefetcher[Batch]] = Prefetcher,
) -> WeakClip:
    """Trains a fresh network; ``stop_at``: the step at which the process is killed."""
    model, make = build(dataset, sizes), batches(dataset)

    def stopping(step: int) -> Batch:
        if step == stop_at:
            raise KeyboardInterrupt
        return make(step)

    schedule = AdaptationSchedule(
        lr=3e-3,
        iterations=iterations,
        warmup=1,
        weight_decay=1e-4,
        validate_every=4,
        checkpoint_every=2,
        micro_batches=micro_batches,
    )
    (folder / "plots").mkdir(parents=True, exist_ok=True)
    log = StepLog(folder / "plots")
    ahead = prefetcher(stopping, last=iterations - 1)
    try:
        adapt(model, ahead, objective(boundary_weight), schedule, validation(dataset), seed=0, folder=folder, log=log)
    finally:
        ahead.close()
    log.close()
    return model.eval()


def curves(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*.tsv"))}


def test_a_few_steps_lower_the_loss(dataset: Dataset) -> None:
    batch = batches(dataset)(0).to(torch.device("cpu"))

    def loss(model: WeakClip) -> float:
        return float(sum(add_gradients(model.eval(), batch, objective(0.0)).values()))

    before = loss(build(dataset))
    assert loss(run(dataset, Path("run"), iterations=12)) < 0.9 * before


class NoneAhead(Prefetcher[Batch]):
    """Whose batches are never there early."""

    def made(self, step: int) -> None:
        return None


def test_crfs_are_started_in_the_step_before_where_there_are_micro_batches(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = run(dataset, Path("alone"), iterations=3, boundary_weight=1.0, micro_batches=2, prefetcher=NoneAhead)
    said: list[str] = []

    class Noted(Prefetcher[Batch]):
        """Whose batches are always there early."""

        def __call__(self, step: int) -> Batch:
            said.append(f"step {step}")
            return super().__call__(step)

        def made(self, step: int) -> Batch | None:
            end = time.monotonic() + (10 if step < 3 else 0)
            while super().made(step) is None and time.monotonic() < end:
                time.sleep(0.01)
            return super().made(step)

    def start_noted(processes: KeptProcesses) -> StartCrfs:
        start = start_crfs(processes)

        def noted(*arguments: Any) -> InferCrfs:
            said.append("started")
            infer = start(*arguments)

            def send(probabilities: Sequence[NDArray[np.float32]]) -> Callable[[], list[NDArray[np.float32]]]:
                said.append("sent")
                return infer(probabilities)

            return send

        return noted

    monkeypatch.setattr(adaptation, "start_crfs", start_noted)
    ahead = run(dataset, Path("ahead"), iterations=3, boundary_weight=1.0, micro_batches=2, prefetcher=Noted)
    start, send = ["started", "started"], ["sent", "sent"]
    assert said == ["step 0", *start, *send, *start, "step 1", *send, *start, "step 2", *send]
    for name, value in alone.trainable_state().items():
        assert torch.equal(value, ahead.trainable_state()[name]), name
    said.clear()
    run(dataset, Path("whole"), iterations=2, boundary_weight=1.0, prefetcher=Noted)
    assert said == ["step 0", "started", "sent", "step 1", "started", "sent"]


def test_a_killed_worker_is_named_also_where_it_had_nothing_to_do(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killing(NoneAhead):
        """At the second step the process that has the CRFs is killed."""

        def __call__(self, step: int) -> Batch:
            if step == 1:
                os.kill(kept[0].submit(0, os.getpid)(), signal.SIGKILL)
                with pytest.raises(WorkerDiedError):
                    kept[0].submit(0, time.sleep, 10)()
            return super().__call__(step)

    kept: list[KeptProcesses] = []

    def noted(processes: KeptProcesses) -> StartCrfs:
        kept.append(processes)
        return start_crfs(processes)

    monkeypatch.setattr(adaptation, "start_crfs", noted)
    monkeypatch.setenv("WEAKCLIP_WORKERS", "1")
    with pytest.raises(WeakClipError, match="a worker process died"):
        run(dataset, Path("killed"), iterations=3, boundary_weight=1.0, micro_batches=2, prefetcher=Killing)


def test_a_killed_training_ends_with_the_same_bytes(dataset: Dataset) -> None:
    whole = run(dataset, Path("whole"), iterations=6, boundary_weight=1.0)
    with pytest.raises(KeyboardInterrupt):
        run(dataset, Path("broken"), iterations=6, boundary_weight=1.0, stop_at=5)
    torch.rand(3)  # the state of torch's generator at the start does not count
    resumed = run(dataset, Path("broken"), iterations=6, boundary_weight=1.0)

    expected, got = whole.trainable_state(), resumed.trainable_state()
    assert all(torch.equal(expected[name], got[name]) for name in expected) and expected.keys() == got.keys()
    assert curves(Path("whole")) == curves(Path("broken"))
    assert {"boundary_loss.tsv", "held_out_agreement.tsv", "held_out_miou.tsv"} <= curves(Path("whole")).keys()


@pytest.mark.parametrize(("context_length", "encodings"), [(0, 1), (2, 3)])
def test_texts_that_do_not_move_are_encoded_once(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, context_length: int, encodings: int
) -> None:
    sizes, asked = replace(SIZES, context_length=context_length), list[bool]()
    encode = TextEncoder.forward
    monkeypatch.setattr(TextEncoder, "forward", lambda self: asked.append(self.training) or encode(self))
    found = run(dataset, Path("run"), iterations=3, sizes=sizes).trainable_state()
    assert sum(asked) == encodings  # the others are of the validation
    monkeypatch.setattr(WeakClip, "fixed_texts", lambda self: None)
    in_every_step = run(dataset, Path("again"), iterations=3, sizes=sizes).trainable_state()
    assert all(torch.equal(found[name], in_every_step[name]) for name in in_every_step)


def test_checkpoints_are_without_clip(dataset: Dataset) -> None:
    run(dataset, Path("run"), iterations=2)
    stored = torch.load(Path("run/state.pt"), weights_only=True)["modules"]["model"]
    assert "text_encoder.contexts" in stored
    assert not any(name.startswith(("text_encoder.transformer", "projection")) for name in stored)


class Oracle:
    """Stands in for a network: logits that say one class everywhere."""

    encoder = None

    def __init__(self, index: int, num_classes: int) -> None:
        self._logits = torch.zeros(1, num_classes, 1, 1)
        self._logits[:, index] = 5

    def eval(self) -> None:
        pass

    def text_encoder(self) -> Tensor:
        return torch.zeros(0)

    def __call__(self, blocks: list[Tensor], height: int, width: int, texts: Tensor) -> tuple[Tensor, Tensor]:
        assert [block.shape[1] for block in blocks] == [1 + height * width] * len(blocks)
        return self._logits.expand(-1, -1, 4 * height, 4 * width), self._logits


def test_validation_is_in_percent_and_limited_to_the_tags(dataset: Dataset) -> None:
    measure, num_classes = validation(dataset), dataset.classes.num_classes
    records = measure.records
    for number, record in enumerate(records):  # half of all seeds is background, the rest the first tag
        seed = np.zeros((record.height, record.width), np.uint8)
        seed[: record.height // 2] = record.tags[0]
        seed[-1] = IGNORE if number == 0 else 0
        write_mask(SEEDS / f"{record.image_id}.png", seed)
    figures = measure(Oracle(0, num_classes))

    seeds = np.concatenate([read_mask(SEEDS / f"{record.image_id}.png").ravel() for record in records])
    known = seeds[seeds != IGNORE]
    classes = len(np.unique(known))
    assert figures["held_out_agreement"] == pytest.approx(100 * (known == 0).mean() / classes, abs=0.01)
    assert 0 < figures["held_out_miou"] < 100
    absent = next(index for index in range(1, num_classes) if all(index not in record.tags for record in records[:1]))
    one = Validation(records=records[:1], store=measure.store, seed_folder=SEEDS, num_classes=num_classes)
    assert one(Oracle(absent, num_classes)) == one(Oracle(0, num_classes))


def test_validation_without_records_or_masks_leaves_figures_out(dataset: Dataset) -> None:
    measure = validation(dataset)
    nothing = Validation(records=[], store=measure.store, seed_folder=SEEDS, num_classes=11)
    assert nothing(Oracle(0, 11)) == {}


def test_vectors_and_contexts_do_not_decay(dataset: Dataset) -> None:
    model = build(dataset)
    decayed, kept = parameter_groups(model, 0.1)
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.1, 0.0)
    assert all(parameter.ndim > 1 for parameter in decayed["params"])
    assert any(parameter is model.text_encoder.contexts for parameter in kept["params"])
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert len(decayed["params"]) + len(kept["params"]) == len(trained)
