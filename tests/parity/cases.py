"""The cases of a folder of parity data (what the released code computed), as its index lists them.

``WEAKCLIP_PARITY`` names the folder; ``WEAKCLIP_PARITY_INDEX`` an index other than ``tests/parity/index.json``.
"""

from __future__ import annotations

import importlib.util
import json
import os
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

INDEX = Path(__file__).with_name("index.json")


@dataclass(frozen=True)
class Case:
    """One file of the folder and what its family's test has to know about it."""

    family: str
    file: str
    fields: dict[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.fields[name]

    @property
    def id(self) -> str:
        return Path(self.file).stem


def folder() -> Path:
    """The folder of the parity data; without one the module that asks is skipped."""
    name = os.environ.get("WEAKCLIP_PARITY", "")
    if not name:
        pytest.skip("WEAKCLIP_PARITY names no folder of parity data", allow_module_level=True)
    return Path(name)


def every_case() -> list[Case]:
    """All cases of the index."""
    index = Path(os.environ.get("WEAKCLIP_PARITY_INDEX", "") or INDEX)
    entries = json.loads(index.read_text(encoding="utf-8"))["cases"]
    return [Case(family=entry["family"], file=entry["file"], fields=entry) for entry in entries]


def cases(*families: str) -> list[Any]:
    """The cases of the families, for ``pytest.mark.parametrize``."""
    folder()
    return [pytest.param(case, id=case.id) for case in every_case() if case.family in families]


def weights() -> ModuleType:
    return load("weights")


def golden() -> ModuleType:
    return load("golden")


def load(name: str) -> ModuleType:
    """A module of the folder, which is no package of this project."""
    spec = importlib.util.spec_from_file_location(f"parity_{name}", folder() / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
