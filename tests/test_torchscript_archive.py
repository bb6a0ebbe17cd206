"""OpenAI's archives: their tensors, and nothing that they say is to be done."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from weakclip.torchscript_archive import read_tensors

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*")


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4).half()
        self.norms = nn.Sequential(nn.BatchNorm1d(4), nn.ReLU())
        self.turned = nn.Parameter(torch.arange(6.0).reshape(2, 3).t())
        self.register_buffer("size", torch.tensor(224))

    def forward(self, x: Tensor) -> Tensor:
        return self.norms(self.first(x.half()).float()) @ self.turned[:2].t().repeat(1, 2)[:3].t()


@pytest.mark.parametrize("make", [torch.jit.script, lambda network: torch.jit.trace(network.eval(), torch.zeros(2, 3))])
def test_tensors_are_those_that_torch_finds(tmp_path: Path, make) -> None:  # type: ignore[no-untyped-def]
    make(Network()).save(str(tmp_path / "a.pt"))
    expected, found = torch.jit.load(str(tmp_path / "a.pt")).state_dict(), read_tensors(tmp_path / "a.pt")  # type: ignore[no-untyped-call]
    assert found.keys() == expected.keys() and len(found) == 9
    assert all(torch.equal(found[name], expected[name]) and found[name].dtype == expected[name].dtype for name in expected)


class Writes(nn.Module):
    """Its archive has a program for `torch.jit.load` to run, which writes a file."""

    def __init__(self, file: str) -> None:
        super().__init__()
        self.file, self.values = file, torch.zeros(4, dtype=torch.uint8)

    @torch.jit.export
    def __getstate__(self) -> tuple[str, Tensor, bool]:
        return (self.file, self.values, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[str, Tensor, bool]) -> None:
        self.file, self.training = state[0], state[2]
        self.values = torch.from_file(state[0], True, 4, dtype=torch.uint8).copy_(state[1])

    def forward(self, x: Tensor) -> Tensor:
        return x


def test_the_program_of_an_archive_is_not_run(tmp_path: Path) -> None:
    target, path = tmp_path / "written", tmp_path / "a.pt"
    torch.jit.script(Writes(str(target))).save(str(path))
    with pytest.raises(pickle.UnpicklingError, match="needs a program"):
        read_tensors(path)
    assert not target.exists()
    torch.jit.load(str(path))  # type: ignore[no-untyped-call]
    assert target.exists()  # it would have been


@pytest.mark.parametrize("content", [b"cposix\nsystem\n.", b"cbuiltins\neval\n.", b"ctorch\nload\n.", b"N."])
def test_other_objects_are_refused(tmp_path: Path, content: bytes) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("a/code/x.py", "")
        archive.writestr("a/data.pkl", content)
    with pytest.raises(pickle.UnpicklingError):
        read_tensors(tmp_path / "a.pt")


def forge(path: Path, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
    """An archive that is nothing but a view on a storage of four numbers."""

    class Forged:
        def __reduce__(self):  # type: ignore[no-untyped-def]
            return torch._utils._rebuild_tensor_v2, (Storage(), offset, shape, strides, False, None)

    class Storage:
        pass

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: object) -> object:
            return ("storage", torch.FloatStorage, "0", "cpu", 4) if isinstance(value, Storage) else None

    file = io.BytesIO()
    Pickler(file, protocol=2).dump(Forged())
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", file.getvalue())
        archive.writestr("a/data/0", bytes(16))


@pytest.mark.parametrize(("offset", "shape", "strides"), [(3, (2,), (1,)), (0, (2, 2), (1, 3)), (0, (2,), (-1,))])
def test_a_tensor_beyond_its_storage_is_refused(
    tmp_path: Path, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    forge(tmp_path / "a.pt", offset, shape, strides)
    with pytest.raises(RuntimeError):
        read_tensors(tmp_path / "a.pt")


@pytest.mark.parametrize(("shape", "strides"), [((9,), (1,)), ((10**12,), (0,))])
def test_a_tensor_larger_than_its_storage_is_refused_before_room_is_made_for_it(
    tmp_path: Path, shape: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    forge(tmp_path / "a.pt", 0, shape, strides)
    with pytest.raises(pickle.UnpicklingError, match="of 4 numbers"):
        read_tensors(tmp_path / "a.pt")


def test_a_short_archive_cannot_ask_for_gigabytes(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02Nr\xff\xff\xff\x7f.")
    with pytest.raises(pickle.UnpicklingError, match="the number 2147483647"):
        read_tensors(tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"\x80\x02N.")
        archive.writestr("a/data/0", bytes(1_000_000))
    with pytest.raises(pickle.UnpicklingError, match="compressed"):
        read_tensors(tmp_path / "a.pt")
