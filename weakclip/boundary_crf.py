"""The dense CRFs of the boundary loss, in two halves and beside the network: lattices first, then inference.

A CRF needs the step's own probabilities, and the step's gradient needs the CRF. But its lattices need the photo alone: worker
processes build them during the network's forward pass, or still during the last step (`weakclip.adaptation`), and keep them
until the probabilities are there. Inference, too, only begins here: whoever has something else to compute
(`weakclip.objective.add_gradients`) asks for the results later.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count

import numpy as np
from numpy.typing import NDArray

from weakclip.crf import CrfKernel, PhotoCrf
from weakclip.process_pool import KeptProcesses

InferCrfs = Callable[[Sequence[NDArray[np.float32]]], Callable[[], list[NDArray[np.float32]]]]
"""Probabilities (n, H, W) of each of some images -> the function that waits for what their CRFs make of them, of the same
shapes."""

StartCrfs = Callable[[NDArray[np.uint8], Sequence[int], CrfKernel, float], InferCrfs]
"""Photos (B, H, W, 3) uint8, the number of classes of each, kernel and floor -> the function for their probabilities."""

_numbers = count()
"""Of starts, each of which has its own in this process."""

_built: dict[int, list[PhotoCrf]] = {}
"""In a worker process: its share of the images whose probabilities are not there yet, by the number of their start."""


def start_crfs(processes: KeptProcesses) -> StartCrfs:
    """CRFs in these processes, each of which has an equal share of the images, that is sent at once, for an image may be small.

    Several may be started before the first is inferred, such as the parts of a batch; each goes on with the process after the
    last one's. What is never inferred stays until the processes end. All three functions raise what the CRFs raise, and
    WorkerDiedError when a process is killed.
    """
    turn = 0

    def start(photos: NDArray[np.uint8], counts: Sequence[int], kernel: CrfKernel, floor: float) -> InferCrfs:
        nonlocal turn
        number, share = next(_numbers), -(-len(photos) // len(processes))
        shares = {
            (turn + place) % len(processes): slice(first, first + share)
            for place, first in enumerate(range(0, len(photos), share))
        }
        turn += len(shares)
        built = [processes.submit(where, _build, number, photos[part], counts[part], kernel) for where, part in shares.items()]

        def infer(probabilities: Sequence[NDArray[np.float32]]) -> Callable[[], list[NDArray[np.float32]]]:
            inferred = [processes.submit(where, _infer, number, probabilities[part], floor) for where, part in shares.items()]

            def results() -> list[NDArray[np.float32]]:
                for result in built:  # first, for without them inference has nothing to work with
                    result()
                return [refined for result in inferred for refined in result()]

            return results

        return infer

    return start


def _build(number: int, photos: NDArray[np.uint8], counts: Sequence[int], kernel: CrfKernel) -> None:
    _built[number] = [PhotoCrf(photo, count, kernel) for photo, count in zip(photos, counts, strict=True)]


def _infer(number: int, probabilities: Sequence[NDArray[np.float32]], floor: float) -> list[NDArray[np.float32]]:
    return [crf(value, floor) for crf, value in zip(_built.pop(number), probabilities, strict=True)]
