"""A training step whose boundary CRFs are waited for, against one that goes on with other micro-batches beside them.

Where the network has a GPU, the CPU cores are free for the CRFs. That is imitated: the network has one thread, all CRFs one
process on another core, with maps of 64 x 64, where all CRFs take less time than the network, and of 128 x 128 as in presets
for real data, where they take about as long. The same steps without the boundary loss tell what the CRFs add to a step, which
is more than its waiting for them: two busy cores slow each other down.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.command import run, scratch
from benchmarks.pairs import Pair, alternate
from benchmarks.rows import Row, compared, significant
from benchmarks.sides import Gate, Side
from benchmarks.sizes import MINI
from benchmarks.train_step import CROPS, parameters, prepare
from stages.train_weakclip import training
from weakclip.boundary_crf import InferCrfs, start_crfs
from weakclip.datasets.index import read_dataset
from weakclip.features.store import FeatureStore
from weakclip.network.variants import build_variant
from weakclip.objective import add_gradients, start_boundary_crfs
from weakclip.process_pool import KeptProcesses
from weakclip.seeding import seed_torch

KINDS: Final = {
    "waited": (1, 1.0),
    "beside": (2, 1.0),
    "beside_in_four": (4, 1.0),
    "without": (1, 0.0),
    "without_in_two": (2, 0.0),
    "without_in_four": (4, 0.0),
}
"""Micro-batches and weight of the boundary loss."""
WITH_CRFS: Final = ("waited", "beside", "beside_in_four")
TURN: Final = 5
"""Steps in a row: only in all but the first have the lattices been started in the step before, as in a training."""


def measure(quick: bool, rounds: int | None) -> list[Row]:
    """Steps of one, two and four micro-batches, with the boundary loss and without it."""
    with scratch() as folder:
        prepare(MINI, folder)
        sizes = (64,) if quick else (64, 128)
        return [row for size in sizes for row in measure_size(folder, size, rounds or (2 if quick else 5))]


def measure_size(folder: Path, size: int, rounds: int) -> list[Row]:
    """With maps of that side."""
    with ExitStack() as stack:
        sides = {kind: stack.enter_context(Side(steps, folder, size, *values)) for kind, values in KINDS.items()}
        turns = alternate(sides, rounds)
        shares = {kind: sides[kind].stop()["wait_share"] for kind in WITH_CRFS}
    seconds = {kind: [value / TURN for value in values] for kind, values in turns.items()}
    times = {kind: median(values) for kind, values in seconds.items()}
    # Round by round, for a host may be busier in one than in another.
    added = {
        kind: median(one - other for one, other in zip(seconds[kind], seconds["without"], strict=True)) for kind in WITH_CRFS
    }
    conditions = (
        f"mini size, batch {MINI.batch_size}, maps of {size} x {size}, one thread for the network and one process for the CRFs"
    )
    beside = compared(
        f"train_step_crfs_beside_{size}",
        Pair(seconds["beside"], seconds["waited"]),
        f"a step of two micro-batches, one that waits for its boundary CRFs; {conditions}",
        seconds_without_boundary_loss={kind: significant(times[kind]) for kind in KINDS if kind.startswith("without")},
        seconds_that_the_boundary_loss_adds={kind: significant(value) for kind, value in added.items()},
    )
    wait = Row(
        name=f"train_step_crfs_wait_{size}",
        ratio=shares["beside"],
        spread=None,
        bar=None,
        at_least=False,
        details={
            "what": f"share of a step of two micro-batches that waits for its boundary CRFs; {conditions}",
            "shares": {kind: significant(share) for kind, share in shares.items()},
        },
    )
    return [beside, wait]


def steps(gate: Gate, folder: Path, loss_size: int, micro_batches: int, boundary_weight: float) -> None:
    """Losses and gradients of one batch, again and again."""
    torch.set_num_threads(1)
    p = parameters(MINI, "cached")
    w = p.weakclip.model_copy(update={"loss_size": loss_size, "boundary_weight": boundary_weight})
    p = p.model_copy(update={"weakclip": w})
    store = FeatureStore(folder / f"features_{CROPS}")
    seed_torch("benchmark training")
    network = build_variant(
        w.variant,
        MINI.clip(),
        blocks=store.blocks,
        classes=MINI.classes,
        sizes=MINI.sizes(),
        image_size=p.clip.image_size,
    )
    make, objective, _ = training(p, network, store, read_dataset(folder / "dataset").training, folder / "masks")
    model, batch = network.model.train(), make(0).to(torch.device("cpu"))
    with KeptProcesses(1, apart=True) as processes:
        start, took, waited = start_crfs(processes), 0.0, 0.0

        crfs: deque[list[InferCrfs]] = deque()

        def start_batch() -> None:
            crfs.append(start_boundary_crfs(model.num_classes, batch, objective, start, micro_batches))

        while True:
            gate()
            for step in range(TURN):
                began, clock = time.perf_counter(), Clock()
                if not crfs:
                    start_batch()
                model.zero_grad()
                watched = [clock.watch(infer) for infer in crfs.popleft()]
                ahead = micro_batches > 1 and step + 1 < TURN  # as in weakclip.adaptation
                then = start_batch if ahead else lambda: None
                add_gradients(model, batch, objective, watched, None, micro_batches, then)
                if step > 0:
                    took, waited = took + time.perf_counter() - began, waited + clock.seconds
            gate.figures["wait_share"] = waited / took


class Clock:
    """``seconds``: in which CRFs were waited for."""

    seconds = 0.0

    def watch(self, infer: InferCrfs) -> InferCrfs:
        """The same CRFs."""

        def send(probabilities: Sequence[NDArray[np.float32]]) -> Callable[[], list[NDArray[np.float32]]]:
            wait = infer(probabilities)

            def results() -> list[NDArray[np.float32]]:
                start = time.perf_counter()
                found = wait()
                self.seconds += time.perf_counter() - start
                return found

            return results

        return send


if __name__ == "__main__":
    run(measure)
