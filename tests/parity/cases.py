"""The folder with inputs and outputs of the released code, and the index of its cases.

``WEAKCLIP_PARITY`` names the folder; without it these tests are skipped. ``WEAKCLIP_PARITY_INDEX`` names another index than the
one beside this file. Seeds, sizes, kernels, class lists and tolerances come from the index and from the folder, never from the
tests.
"""

from __future__ import annotations

import importlib.util
import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = "WEAKCLIP_PARITY"
INDEX = "WEAKCLIP_PARITY_INDEX"
OWN_INDEX = Path(__file__).with_name("index.json")


@dataclass(frozen=True)
class Case:
    """One entry of the index: its family says which test reads it, its file what that compares with."""

    family: str
    file: str
    fields: dict[str, Any]

    def __getitem__(self, name: str) -> Any:
        if name not in self.fields:
            pytest.fail(f"the index of cases gives no {name} for {self.file}, family {self.family}", pytrace=False)
        return self.fields[name]

    def get(self, name: str, default: Any = None) -> Any:
        return self.fields.get(name, default)

    @property
    def path(self) -> Path:
        return folder() / self.file

    @property
    def id(self) -> str:
        return Path(self.file).stem

    @property
    def tolerance(self) -> dict[str, float]:
        """Of tensors, as `Golden.check` takes it."""
        return {"atol": self["atol"], "rtol": self["rtol"]}

    @property
    def files(self) -> set[str]:
        """Names of all files that the case refers to."""
        return {value for value in self.fields.values() if isinstance(value, str) and Path(value).suffix}


def folder() -> Path:
    """The folder of the released code's data; the module that asks is skipped where there is none."""
    name = os.environ.get(FOLDER)
    if not name:
        pytest.skip(f"{FOLDER} names no folder with data of the released code", allow_module_level=True)
    path = Path(name)
    if not path.is_dir():
        pytest.fail(f"{FOLDER} names {path}, which is no folder", pytrace=False)
    return path


def index() -> list[Case]:
    """All cases of the index."""
    path = Path(os.environ.get(INDEX) or OWN_INDEX)
    content = json.loads(path.read_text(encoding="utf-8"))
    entries = content.get("cases") if isinstance(content, dict) else None
    if not entries:
        pytest.fail(f"{path} holds no list of cases", pytrace=False)
    for number, entry in enumerate(entries):
        for name in ("family", "file"):
            if name not in entry:
                pytest.fail(f"{path}: case {number} (from 0) has no {name}", pytrace=False)
    return [Case(entry["family"], entry["file"], entry) for entry in entries]


def cases(*families: str) -> list[Case]:
    """The cases of these families, for ``pytest.mark.parametrize("case", marked(cases(...)))``."""
    folder()
    return [case for case in index() if case.family in families]


def marked(found: list[Case]) -> list[Any]:
    """The cases as parameters of a test, those that take minutes and gigabytes marked ``slow``."""
    return [pytest.param(case, marks=[pytest.mark.slow] if case.get("slow") else [], id=case.id) for case in found]


@cache
def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"parity_{name}", folder() / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def weights() -> ModuleType:
    """``weights.py`` of the folder: makes parameters and inputs."""
    return _module("weights")


def golden() -> ModuleType:
    """``golden.py`` of the folder: reads and compares stored outputs."""
    return _module("golden")


def read_json(case: Case, name: str = "file") -> Any:
    """The JSON file that a field of the case names."""
    return json.loads((folder() / case[name]).read_text(encoding="utf-8"))
