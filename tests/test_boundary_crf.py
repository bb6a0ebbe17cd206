"""CRFs whose lattices are built before their probabilities are there."""

import os
import signal
from collections.abc import Iterator

import numpy as np
import pytest

from weakclip import boundary_crf
from weakclip.boundary_crf import start_crfs
from weakclip.crf import CrfKernel, dense_crf
from weakclip.process_pool import KeptProcesses, WorkerDiedError

KERNEL = CrfKernel(gaussian_sxy=1, gaussian_compat=3, bilateral_sxy=10, bilateral_srgb=13, bilateral_compat=5, iterations=3)
COUNTS = [2, 4, 1, 3, 2]


@pytest.fixture(params=[1, 2, 8])
def processes(request: pytest.FixtureRequest) -> Iterator[KeptProcesses]:
    with KeptProcesses(request.param) as processes:
        yield processes


def photos(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (len(COUNTS), 12, 16, 3), dtype=np.uint8)


def probabilities(seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.random((count, 12, 16), dtype=np.float32) for count in COUNTS]


def test_batch_after_batch_has_the_bytes_of_whole_crfs(processes: KeptProcesses) -> None:
    start = start_crfs(processes)
    for seed in range(3):
        results = start(photos(seed), COUNTS, KERNEL, 1e-3)(probabilities(seed))
        for photo, values, result in zip(photos(seed), probabilities(seed), results, strict=True):
            assert result.tobytes() == dense_crf(photo, values, KERNEL, 1e-3).tobytes()


def test_a_batch_that_was_given_up_is_forgotten(processes: KeptProcesses) -> None:
    start = start_crfs(processes)
    start(photos(0), COUNTS, KERNEL, 1e-5)
    results = start(photos(1), COUNTS, KERNEL, 1e-5)(probabilities(1))
    assert results[0].tobytes() == dense_crf(photos(1)[0], probabilities(1)[0], KERNEL).tobytes()
    assert boundary_crf._ready == []


def test_what_is_wrong_with_the_photos_or_the_probabilities_is_raised(processes: KeptProcesses) -> None:
    start = start_crfs(processes)
    with pytest.raises(ValueError, match="expected a photo of shape"):
        start(photos(0)[..., :2], COUNTS, KERNEL, 1e-5)(probabilities(0))
    with pytest.raises(ValueError, match="expected probabilities of shape"):
        start(photos(0), COUNTS, KERNEL, 1e-5)([values[:, 1:] for values in probabilities(0)])
    start(photos(0), COUNTS, KERNEL, 1e-5)(probabilities(0))  # and the processes go on


@pytest.mark.parametrize("when", ["before the start", "between the halves"])
def test_a_process_that_is_killed_is_named_so(when: str) -> None:
    with KeptProcesses(2) as processes:
        start = start_crfs(processes)
        infer = start(photos(0), COUNTS, KERNEL, 1e-5)
        if when == "before the start":
            infer(probabilities(0))
        os.kill(processes.submit(1, os.getpid)(), signal.SIGKILL)
        with pytest.raises(WorkerDiedError, match=r"a worker process died \(killed, or out of memory\)$"):
            (start(photos(0), COUNTS, KERNEL, 1e-5) if when == "before the start" else infer)(probabilities(0))
