"""The dense CRFs of the boundary loss, batch after batch, in two halves: lattices beside the network, then inference.

A CRF needs the step's own probabilities, and the step's gradient needs the CRF. But its lattices need the photo alone: worker
processes build them during the network's forward pass, and keep them until the probabilities are there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from weakclip.crf import CrfKernel, PhotoCrf
from weakclip.process_pool import KeptProcesses

InferCrfs = Callable[[Sequence[NDArray[np.float32]]], list[NDArray[np.float32]]]
"""Probabilities (n, H, W) of each of a batch's images -> what their CRFs make of them, of the same shapes."""

StartCrfs = Callable[[NDArray[np.uint8], Sequence[int], CrfKernel, float], InferCrfs]
"""Photos (B, H, W, 3) uint8, the number of classes of each, kernel and floor -> the function for their probabilities."""

_ready: list[PhotoCrf] = []  # in a worker process: its share of the batch that the network computes with


def start_crfs(processes: KeptProcesses) -> StartCrfs:
    """CRFs in these processes, each of which has an equal share of the images, that is sent at once, for an image may be small.

    A batch is forgotten when its results are there, or when the next one is started: a process keeps one share of one batch.
    Both functions raise what the CRFs raise, and WorkerDiedError when a process is killed.
    """

    def start(photos: NDArray[np.uint8], counts: Sequence[int], kernel: CrfKernel, floor: float) -> InferCrfs:
        share = -(-len(photos) // len(processes))
        shares = [slice(first, first + share) for first in range(0, len(photos), share)]
        built = [processes.submit(where, _build, photos[part], counts[part], kernel) for where, part in enumerate(shares)]

        def infer(probabilities: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
            inferred = [processes.submit(where, _infer, probabilities[part], floor) for where, part in enumerate(shares)]
            for result in built:  # first, for without them inference has nothing to work with
                result()
            return [refined for result in inferred for refined in result()]

        return infer

    return start


def _build(photos: NDArray[np.uint8], counts: Sequence[int], kernel: CrfKernel) -> None:
    _ready.clear()  # of a batch that was given up
    _ready.extend(PhotoCrf(photo, count, kernel) for photo, count in zip(photos, counts, strict=True))


def _infer(probabilities: Sequence[NDArray[np.float32]], floor: float) -> list[NDArray[np.float32]]:
    try:
        return [crf(value, floor) for crf, value in zip(_ready, probabilities, strict=True)]
    finally:
        _ready.clear()
