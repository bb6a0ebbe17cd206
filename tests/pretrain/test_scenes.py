"""The bank of scenes, drawn by worker processes."""

from __future__ import annotations

import os
import signal
import time

import numpy as np
import pytest

from weakclip.datasets.mini import MiniWorld, Scene
from weakclip.errors import WeakClipError
from weakclip.pretrain import scenes
from weakclip.pretrain.scenes import draw_bank


@pytest.fixture(autouse=True)
def small_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenes, "CHUNK", 2)


class Deadly(MiniWorld):
    """A world whose last scene takes more memory than there is, as far as the system is concerned."""

    def scene(self, stream: str, index: int) -> Scene:
        if index == 3:
            time.sleep(0.5)  # for the other process to finish
            os.kill(os.getpid(), signal.SIGKILL)
        return super().scene(stream, index)


def test_a_killed_process_is_an_error_that_names_the_scene(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEAKCLIP_WORKERS", "2")
    with pytest.raises(WeakClipError, match=r"a worker process died .* while it worked on .*scene 3 of pretrain"):
        draw_bank(Deadly(seed=1), "pretrain", 4)


def test_the_number_of_processes_changes_no_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    banks = []
    for count in ("1", "2"):
        monkeypatch.setenv("WEAKCLIP_WORKERS", count)
        banks.append(draw_bank(MiniWorld(seed=1), "pretrain", 3))
    np.testing.assert_array_equal(banks[0].images, banks[1].images)
    assert banks[0].captions == banks[1].captions and banks[0].words == banks[1].words
