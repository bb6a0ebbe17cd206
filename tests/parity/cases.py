"""The parity cases: inputs and outputs of the released code in a folder of their own, listed in an index."""

import importlib.util
import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

INDEX = Path(__file__).with_name("index.json")


@dataclass(frozen=True)
class Case:
    """An entry of the index; ``fields`` holds all of it."""

    family: str
    file: str
    fields: dict[str, object]

    def __getitem__(self, name: str) -> object:
        return self.fields[name]


def folder() -> Path:
    """The folder of the parity data."""
    name = os.environ.get("WEAKCLIP_PARITY")
    if not name:
        pytest.skip("WEAKCLIP_PARITY names no folder of parity data", allow_module_level=True)
    return Path(name)


def cases(*families: str) -> list[Case]:
    """The cases of some families, in the order of the index."""
    index = Path(os.environ.get("WEAKCLIP_PARITY_INDEX") or INDEX)
    entries = json.loads(index.read_text(encoding="utf-8"))["cases"]
    return [Case(entry["family"], entry["file"], entry) for entry in entries if entry["family"] in families]


def weights() -> ModuleType:
    """The folder's `weights.py`, which makes weights and inputs from names."""
    return _module("weights")


def golden() -> ModuleType:
    """The folder's `golden.py`, which compares."""
    return _module("golden")


@cache
def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"parity_{name}", folder() / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
