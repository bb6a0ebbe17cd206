"""A full disk, injected where bytes are written, and a real one where this user may mount one."""

from __future__ import annotations

import errno
import io
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from weakclip.disk_space import room_for, write_whole, written_aside
from weakclip.errors import WeakClipError
from weakclip.features.shards import Column, ShardLayout, create_shard
from weakclip.masks import read_mask, write_mask
from weakclip.training import load_checkpoint, save_checkpoint, saved_bytes
from weakclip.weights import load_weights, save_weights

NOISE = np.random.default_rng(0).integers(0, 21, (400, 400), dtype=np.uint8)
NETWORK = nn.Linear(300, 300)
OPTIMIZER = torch.optim.SGD(NETWORK.parameters(), 0.1)
SHARD = ShardLayout(
    columns=(Column(name="a", shape=(1000,), dtype="<f2"),), counts=(90,), about=("one row",), attributes={"kind": "test"}
)


def write_everything(folder: Path) -> dict[str, Callable[[], None]]:
    return {
        "mask.png": lambda: write_mask(folder / "mask.png", NOISE),
        "state.pt": lambda: save_checkpoint(folder / "state.pt", 3, {"network": NETWORK}, OPTIMIZER),
        "weights.safetensors": lambda: save_weights(folder, "weights", NETWORK.state_dict(), {}),
        "shard.h5": lambda: create_shard(folder / "shard.h5", SHARD),
    }


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """64 kB of memory as a file system, where this user may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("this user may not mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_really_full_is_said_with_both_sizes_and_keeps_what_was_there(small_disk: Path) -> None:
    (small_disk / "state.pt").write_bytes(b"the last one")
    for name, write in write_everything(small_disk).items():
        with pytest.raises(WeakClipError, match=rf"{name}.* needs \d.* kB, \d.* free on the disk") as caught:
            write()
        assert "goes on where it stood" in caught.value.hint
        assert [path.name for path in small_disk.iterdir()] == ["state.pt"]
    assert (small_disk / "state.pt").read_bytes() == b"the last one"


def test_an_injected_full_disk_is_said_and_the_next_attempt_writes_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, write in write_everything(tmp_path).items():
        with monkeypatch.context() as patch:
            for call in ("fsync", "posix_fallocate"):
                patch.setattr(os, call, full)
            if name != "mask.png":
                with pytest.raises(WeakClipError, match=rf"{name}.* needs .* free on the disk"):
                    write()
                assert not list(tmp_path.glob(f"{name}*"))
        write()
        first = (tmp_path / name).read_bytes()
        write()
        assert (tmp_path / name).read_bytes() == first
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), NOISE)
    assert load_checkpoint(tmp_path / "state.pt", {"network": NETWORK}, OPTIMIZER) == 3
    assert torch.equal(load_weights(tmp_path, "weights")[0]["weight"], NETWORK.weight)


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_the_size_of_a_checkpoint_is_told_exactly(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "state.pt", 3, {"network": NETWORK}, OPTIMIZER)
    state = {"step": 3, "optimizer": OPTIMIZER.state_dict(), "modules": {"network": NETWORK.state_dict()}}
    assert saved_bytes(state) == (tmp_path / "state.pt").stat().st_size


class FullFile(io.BytesIO):
    """Takes one part, and then there is no room."""

    def writelines(self, parts: Iterable[Any], /) -> None:
        next(iter(parts))
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_disk_that_is_full_beside_work_is_said_before_the_rest_of_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.TemporaryFile", FullFile)
    made = list[int]()

    def parts() -> Iterator[bytes]:
        for number in range(100):
            made.append(number)
            yield b"a row\n"

    with pytest.raises(WeakClipError, match="a list of images needs"):
        written_aside(parts())
    assert made == [0]


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt])
def test_a_file_whose_parts_fail_is_not_left_half_written(error: type[BaseException], tmp_path: Path) -> None:
    def parts() -> Iterator[bytes]:
        yield b"a row\n"
        raise error

    with pytest.raises(error):
        write_whole(tmp_path / "table.csv", parts())
    assert not [*tmp_path.iterdir()]


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), room_for(tmp_path / "a", 10):
        raise PermissionError(errno.EACCES, "Permission denied")
    with pytest.raises(FileNotFoundError):
        write_whole(tmp_path / "missing" / "a", b"x")
