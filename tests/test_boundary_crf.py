"""CRFs whose lattices are built before their probabilities are there."""

import os
import signal
from collections.abc import Callable, Iterator

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
        results = start(photos(seed), COUNTS, KERNEL, 1e-3)(probabilities(seed))()
        for photo, values, result in zip(photos(seed), probabilities(seed), results, strict=True):
            assert result.tobytes() == dense_crf(photo, values, KERNEL, 1e-3).tobytes()


def test_parts_that_are_started_together_are_not_mixed_up(processes: KeptProcesses) -> None:
    start = start_crfs(processes)
    inferring = [start(photos(seed), COUNTS, KERNEL, 1e-5) for seed in range(3)]
    waiting = {seed: inferring[seed](probabilities(seed)) for seed in (1, 2)}  # the first one is given up
    for seed in (2, 1):
        for photo, values, result in zip(photos(seed), probabilities(seed), waiting[seed](), strict=True):
            assert result.tobytes() == dense_crf(photo, values, KERNEL).tobytes()


def test_nothing_is_kept_of_what_is_inferred() -> None:
    before = dict(boundary_crf._built)
    with KeptProcesses(1) as processes:
        start = start_crfs(processes)(photos(0), COUNTS, KERNEL, 1e-5)
        assert len(boundary_crf._built) == len(before) + 1
        start(probabilities(0))()
    assert boundary_crf._built == before


def test_two_who_start_crfs_in_one_process_are_not_mixed_up() -> None:
    with KeptProcesses(1) as processes:
        inferring = [start_crfs(processes)(photos(seed), COUNTS, KERNEL, 1e-5) for seed in (0, 1)]
        for seed, infer in enumerate(inferring):
            wanted = dense_crf(photos(seed)[0], probabilities(seed)[0], KERNEL)
            assert infer(probabilities(seed))()[0].tobytes() == wanted.tobytes()


def test_small_parts_take_turns_with_the_processes() -> None:
    asked = []

    class Noted(KeptProcesses):
        def submit(self, where: int, function: Callable[..., object], *arguments: object) -> Callable[[], object]:
            asked.append(where)
            return lambda: None

    start = start_crfs(Noted(4))
    for _ in range(3):
        start(photos(0)[:2], COUNTS[:2], KERNEL, 1e-5)
    assert asked == [0, 1, 2, 3, 0, 1]


def test_one_process_apart_computes_beside_this_one() -> None:
    with KeptProcesses(1, apart=True) as processes:
        assert processes.submit(0, os.getpid)() != os.getpid()
        (result,) = start_crfs(processes)(photos(0)[:1], [2], KERNEL, 1e-5)(probabilities(0)[:1])()
    assert result.tobytes() == dense_crf(photos(0)[0], probabilities(0)[0], KERNEL).tobytes()


def test_what_is_wrong_with_the_photos_or_the_probabilities_is_raised(processes: KeptProcesses) -> None:
    start = start_crfs(processes)
    with pytest.raises(ValueError, match="expected a photo of shape"):
        start(photos(0)[..., :2], COUNTS, KERNEL, 1e-5)(probabilities(0))()
    with pytest.raises(ValueError, match="expected probabilities of shape"):
        start(photos(0), COUNTS, KERNEL, 1e-5)([values[:, 1:] for values in probabilities(0)])()
    start(photos(0), COUNTS, KERNEL, 1e-5)(probabilities(0))()  # and the processes go on


@pytest.mark.parametrize("when", ["before the start", "between the halves"])
def test_a_process_that_is_killed_is_named_so(when: str) -> None:
    with KeptProcesses(2) as processes:
        start = start_crfs(processes)
        infer = start(photos(0), COUNTS, KERNEL, 1e-5)
        if when == "before the start":
            infer(probabilities(0))()
        os.kill(processes.submit(1, os.getpid)(), signal.SIGKILL)
        with pytest.raises(WorkerDiedError, match=r"a worker process died \(killed, or out of memory\)$"):
            (start(photos(0), COUNTS, KERNEL, 1e-5) if when == "before the start" else infer)(probabilities(0))()
