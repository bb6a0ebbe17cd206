"""Weights that other programs wrote, whatever became of them since."""

from __future__ import annotations

import errno
import os
import pickle
import random
import zipfile
from pathlib import Path

import pytest
import torch

from weakclip import state_files
from weakclip.errors import WeakClipError
from weakclip.state_files import read_state

STATE = {"a": torch.arange(3.0), "b": torch.ones(2, 2)}


class Attack:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_would_run_code_is_refused_and_runs_none(tmp_path: Path, zipped: bool) -> None:
    torch.save(STATE | {"x": Attack(tmp_path / "marker")}, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeakClipError, match=r"a\.pth holds more than tensors") as caught:
        read_state(tmp_path / "a.pth")
    assert "could run code" in caught.value.hint
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("ending", ["pth", "params", "safetensors", "npy"])
def test_a_bare_pickle_by_any_name_runs_nothing(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    path.write_bytes(pickle.dumps({"x": Attack(tmp_path / "marker")}, protocol=2))
    with pytest.raises(WeakClipError, match=rf"a\.{ending}"):
        read_state(path)
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_damaged_file_is_named_whatever_torch_makes_of_it(tmp_path: Path, zipped: bool) -> None:
    torch.save(STATE, tmp_path / "whole.pth", _use_new_zipfile_serialization=zipped)
    whole, refused = (tmp_path / "whole.pth").read_bytes(), 0
    draw = random.Random(0)
    for _ in range(60):
        content = bytearray(whole)
        place = draw.randrange(len(content))
        if draw.random() < 0.5:
            content[place] ^= 1 << draw.randrange(8)
        else:
            del content[place:]
        (tmp_path / "a.pth").write_bytes(content)
        try:
            read_state(tmp_path / "a.pth")
        except WeakClipError as error:
            assert "a.pth" in error.problem
            refused += 1
    assert refused >= 20


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "a.pth").mkdir()
    with pytest.raises(WeakClipError, match="is missing"):
        read_state(tmp_path / "a.pth")
    with zipfile.ZipFile(tmp_path / "b.pth", "w"):
        pass
    with pytest.raises(WeakClipError, match=r"b\.pth"):
        read_state(tmp_path / "b.pth")


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_what_the_machine_lacks_is_not_said_of_the_file(tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    (tmp_path / f"a.{ending}").write_bytes(b"x")
    monkeypatch.setattr(torch, "load", refuse)
    monkeypatch.setattr(state_files, "load_file", refuse)
    with pytest.raises(OSError, match="Too many open files"):
        read_state(tmp_path / f"a.{ending}")
