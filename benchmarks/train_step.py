"""A training step of WeakCLIP: from cached features, encoded online, and as the released code does it.

Each is the project's own training loop on the preset's values, let through one step at a time. As released: the variant
`published`, gradients through everything, the boundary loss's CRF image after image over all classes, anomaly detection on.
(The released code also computes a matrix of distances that nothing uses; it is left out here.)
"""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch

from benchmarks.command import run, scratch
from benchmarks.pairs import Pair, alternate
from benchmarks.rows import Row, compared
from benchmarks.samples import draw_dataset
from benchmarks.sides import Gate, Side
from benchmarks.sizes import FULL, MINI, SIZES, RandomEncoder, Size
from stages.train_weakclip import schedule, training
from weakclip.adaptation import AdaptationSchedule, Validation, adapt
from weakclip.clip.image_encoder import ImageEncoder
from weakclip.datasets.index import read_dataset
from weakclip.features.cache import cache_features
from weakclip.features.plan import ViewRecipe
from weakclip.features.store import FeatureStore
from weakclip.network.variants import build_variant
from weakclip.network.weakclip import Decoded, WeakClip
from weakclip.params import Params
from weakclip.prefetch import Prefetcher
from weakclip.runlog import StepLog
from weakclip.seeding import seed_torch
from weakclip.supervision import Batch

KINDS: Final = ("cached", "bf16", "lean", "online", "released")
FREE_STEPS: Final = {
    "cached": 6,
    "crf_in_torch": 6,
    "one_micro_batch": 6,
    "bf16": 2,
    "lean": 2,
    "online": 2,
    "released": 1,
}  # before the first that is timed; of cached ones the wait is taken
LEAN: Final = "weakclip.recompute and the boundary CRF in torch"
NEVER: Final = 10**9
CROPS: Final = 2


def measure(quick: bool, rounds: int | None) -> list[Row]:
    """Training steps from cached features, encoded online and as released, at mini and at full size."""
    rows = []
    for size, number in ((MINI, rounds or (3 if quick else 7)), (FULL, rounds or 3)):
        if not (quick and size is FULL):
            with scratch() as folder:
                rows += measure_size(size, folder, number)
    return rows


def measure_size(size: Size, folder: Path, rounds: int) -> list[Row]:
    prepare(size, folder)
    with ExitStack() as stack:
        sides = {
            kind: stack.enter_context(
                Side(
                    step_by_step,
                    folder,
                    size.name,
                    kind,
                    "bfloat16" if kind == "bf16" else "float32",
                    environment=environment(kind),
                )
            )
            for kind in KINDS
        }
        seconds = alternate(sides, rounds, warm_up=0)
        figures = {kind: side.stop() for kind, side in sides.items()}
    peaks = {kind: figures[kind]["peak_bytes"] for kind in KINDS}
    released = Pair(seconds["cached"], seconds["released"])
    online, bf16, lean = (Pair(seconds[kind], seconds["released"]) for kind in ("online", "bf16", "lean"))
    bars = {"step": 3.0, "bf16": 5.0, "memory": 0.25} if size is FULL else {}
    what = f"{size.name} size, batch {size.batch_size}, float32"
    return [
        compared(
            f"train_step_{size.name}", released, f"a step from cached features, the released step; {what}", bar=bars.get("step")
        ),
        compared(
            f"train_step_{size.name}_bf16",
            bf16,
            f"a step from cached features in bfloat16, the released step; {what} where not said",
            bar=bars.get("bf16"),
        ),
        compared(
            f"train_step_{size.name}_lean",
            lean,
            f"a step from cached features with {LEAN}, the released step; {what}",
            bar=bars.get("step"),
        ),
        compared(f"train_step_{size.name}_online", online, f"a step encoded online, the released step; {what}"),
        Row(
            name=f"train_step_{size.name}_memory",
            ratio=peaks["cached"] / peaks["released"],
            spread=None,
            bar=bars.get("memory"),
            at_least=False,
            details={"what": f"peak memory of cached over released training; {what}"}
            | {f"gigabytes_{kind}": round(peak / 1e9, 3) for kind, peak in peaks.items()},
        ),
        Row(
            name=f"train_step_{size.name}_memory_lean",
            ratio=peaks["lean"] / peaks["released"],
            spread=None,
            bar=bars.get("memory"),
            at_least=False,
            details={"what": f"peak memory of cached training with {LEAN} over released training; {what}"},
        ),
        Row(
            name=f"train_wait_{size.name}",
            ratio=figures["cached"]["wait_share"],
            spread=None,
            bar=0.05,
            at_least=False,
            details={"what": f"share of cached steps, one after the other, that waits for the batch; {what}"},
        ),
    ]


def environment(kind: str) -> dict[str, str]:
    """The released code computes its CRFs in the training process."""
    return {"WEAKCLIP_DEVICE": "cpu"} | ({"WEAKCLIP_WORKERS": "1"} if kind == "released" else {})


def recipe_of(p: Params, patch: int, crops: int) -> ViewRecipe:
    return ViewRecipe(
        scales=p.cam.scales,
        flip=False,
        crops=crops,
        crop_scale=p.features.scale,
        colour=p.features.colour,
        image_size=p.clip.image_size,
        patch=patch,
        seed=0,
    )


def prepare(size: Size, folder: Path) -> None:
    """Photos, their masks as seeds, and stores with and without crops, whose tokens are random."""
    p, (height, width) = size.params(), size.photo
    records = draw_dataset(folder, 2 * size.batch_size, height=height, width=width, classes=size.classes).records
    encoder = RandomEncoder(ImageEncoder(size.clip(), p.clip.blocks))
    for crops in (0, CROPS):
        cache_features(records, encoder, recipe_of(p, encoder.patch, crops), folder / f"features_{crops}", shard_bytes=10**9)


def step_by_step(gate: Gate, folder: Path, name: str, kind: str, precision: str = "float32") -> None:
    """Train, waiting at the gate before each step."""
    size = SIZES[name]
    p = parameters(size, kind)
    records = read_dataset(folder / "dataset").training
    store = FeatureStore(folder / f"features_{0 if kind in ('online', 'released') else CROPS}")
    seed_torch("benchmark training")
    network = build_variant(
        p.weakclip.variant,
        size.clip(),
        blocks=store.blocks,
        classes=size.classes,
        sizes=size.sizes(),
        image_size=p.clip.image_size,
        precision=precision,
        recompute=p.weakclip.recompute,
    )
    make, objective, tuning = training(p, network, store, records, folder / "masks")
    if kind == "released":
        torch.autograd.set_detect_anomaly(True, check_nan=True)
        hold_outputs(network.model)
    validation = Validation(records=(), store=store, seed_folder=folder / "masks", num_classes=size.classes.num_classes)
    with closing(WatchedPrefetcher(make, last=NEVER)) as batches:
        began = 0.0

        def rates(step: int, plan: AdaptationSchedule) -> list[float]:
            """The learning rates, asked for at the beginning of every step."""
            nonlocal began
            if step == 1:
                began, batches.waited = time.perf_counter(), 0.0
            if step == FREE_STEPS[kind] > 1:
                gate.figures["wait_share"] = batches.waited / (time.perf_counter() - began)
            if step >= FREE_STEPS[kind]:
                gate()
            return tuning.rates(step, plan)

        slot = folder / kind
        slot.mkdir()
        adapt(
            network.model,
            batches,
            objective,
            replace(schedule(p), iterations=NEVER, validate_every=NEVER, checkpoint_every=NEVER),
            validation,
            seed=0,
            folder=slot,
            log=StepLog(slot / "plots"),
            tuning=replace(tuning, rates=rates),
        )


def hold_outputs(model: WeakClip) -> None:
    """Keep what a step has computed, and its graph with it, until the next one has computed its own.

    The released code's runner keeps the graph that long (mmcv: ``self.outputs``, with the loss). It holds hardly a tensor by
    then, but it lies between them, and the allocator's heap grows to a gigabyte more at full size.
    """
    decode, held = model.decode, list[Decoded]()

    def decode_and_hold(*inputs: Any) -> Decoded:
        outputs = decode(*inputs)
        held[:] = [outputs]
        return outputs

    model.decode = decode_and_hold  # type: ignore[method-assign, assignment]


def parameters(size: Size, kind: str) -> Params:
    """Those of the preset, at the batch size that is measured, views taken whole, so that all kinds do the same."""
    p = size.params()
    variant = "published" if kind == "released" else "repaired"
    backend = "torch" if kind in ("crf_in_torch", "lean") else "pydensecrf"
    changes = {
        "batch_size": size.batch_size,
        "variant": variant,
        "token_crop": 1.0,
        "recompute": kind == "lean",
        "micro_batches": 1 if kind in ("released", "one_micro_batch") else p.weakclip.micro_batches,
        "boundary_crf": p.weakclip.boundary_crf.model_copy(update={"backend": backend}),
    }
    return p.model_copy(update={"weakclip": p.weakclip.model_copy(update=changes)})


class WatchedPrefetcher(Prefetcher[Batch]):
    """``waited``: seconds that steps have waited for their batch."""

    waited = 0.0

    def __call__(self, step: int) -> Batch:
        start = time.perf_counter()
        batch = super().__call__(step)
        self.waited += time.perf_counter() - start
        return batch


if __name__ == "__main__":
    run(measure)
