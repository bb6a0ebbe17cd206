"""A training step whose boundary CRFs are waited for, against one that goes on with other micro-batches beside them.

Where the network has a GPU, the CPU cores are free for the CRFs. That is imitated: the network has one thread, all CRFs one
process on another core, with maps of 64 x 64, where all CRFs take less time than the network, and of 128 x 128 as in presets
for real data, where they take about as long. The same steps without the boundary loss tell what waiting for the CRFs adds.
"""

from __future__ import annotations

from collections import deque
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Final

import torch

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


def measure(quick: bool, rounds: int | None) -> list[Row]:
    """Steps of one, two and four micro-batches, with the boundary loss and without it."""
    with scratch() as folder:
        prepare(MINI, folder)
        return [measure_size(folder, size, rounds or (2 if quick else 15)) for size in ((64,) if quick else (64, 128))]


def measure_size(folder: Path, size: int, rounds: int) -> Row:
    """With maps of that side."""
    with ExitStack() as stack:
        sides = {kind: stack.enter_context(Side(steps, folder, size, *values)) for kind, values in KINDS.items()}
        seconds = alternate(sides, rounds)
    times = {kind: median(values) for kind, values in seconds.items()}
    # Round by round, for a host may be busier in one than in another.
    added = {
        kind: median(one - other for one, other in zip(seconds[kind], seconds["without"], strict=True))
        for kind in ("waited", "beside", "beside_in_four")
    }
    return compared(
        f"train_step_crfs_beside_{size}",
        Pair(seconds["beside"], seconds["waited"]),
        f"a step of two micro-batches, one that waits for its boundary CRFs; mini size, batch {MINI.batch_size}, maps of "
        f"{size} x {size}, one thread for the network and one process for the CRFs",
        seconds_without_boundary_loss={kind: significant(times[kind]) for kind in KINDS if kind.startswith("without")},
        seconds_that_the_boundary_loss_adds={kind: significant(value) for kind, value in added.items()},
    )


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
        start = start_crfs(processes)
        crfs: deque[list[InferCrfs]] = deque()

        def start_next() -> None:
            crfs.append(start_boundary_crfs(model.num_classes, batch, objective, start, micro_batches))

        while True:
            gate()
            model.zero_grad()
            if not crfs:
                start_next()
            then = start_next if micro_batches > 1 else lambda: None  # as in weakclip.adaptation
            add_gradients(model, batch, objective, crfs.popleft(), None, micro_batches, then)


if __name__ == "__main__":
    run(measure)
