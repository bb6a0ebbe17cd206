"""Folders with inputs and outputs of other people's code, and the indices of their cases.

An environment variable names such a folder; without it the tests that read it are skipped. Another variable names another
index than the one beside those tests. Seeds, sizes, kernels, class lists and tolerances come from index and folder,
never from the tests. Used by tests/parity and tests/parity_beyond.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import os
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SUFFIXES = {".json", ".npy", ".npz", ".txt"}
"""Of the folder's data; what else it holds explains or reads them."""


@dataclass(frozen=True)
class Case:
    """One entry of an index: its family says which test reads it, its file what that compares with."""

    family: str
    file: str
    fields: dict[str, Any]
    root: Path = field(default=Path())

    def __getitem__(self, name: str) -> Any:
        if name not in self.fields:
            pytest.fail(f"the index of cases gives no {name} for {self.file}, family {self.family}", pytrace=False)
        return self.fields[name]

    def get(self, name: str, default: Any = None) -> Any:
        return self.fields.get(name, default)

    @property
    def path(self) -> Path:
        return self.root / self.file

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
        named = {value for key, value in self.fields.items() if key != "file" and isinstance(value, str) and Path(value).suffix}
        return {self.file, *named}

    def claims(self, name: str) -> bool:
        """Whether the case's test is the one that has to compare this array of the file: all, or those that ``arrays`` lists,
        shell patterns."""
        return any(fnmatchcase(name, pattern) for pattern in self.get("arrays", ["*"]))


@dataclass(frozen=True)
class ParityData:
    """``variable``: of the environment, names the folder. ``own_index``: the index beside the tests."""

    variable: str
    own_index: Path

    @property
    def index_variable(self) -> str:
        return f"{self.variable}_INDEX"

    @property
    def index_path(self) -> Path:
        return Path(os.environ.get(self.index_variable) or self.own_index)

    def folder(self) -> Path:
        """The folder; the module that asks is skipped where there is none."""
        name = os.environ.get(self.variable)
        if not name:
            pytest.skip(f"{self.variable} names no folder with data of other people's code", allow_module_level=True)
        path = Path(name)
        if not path.is_dir():
            pytest.fail(f"{self.variable} names {path}, which is no folder", pytrace=False)
        return path

    def index(self) -> list[Case]:
        """All cases of the index; an entry whose file is a shell pattern is a case for every file of the folder that fits."""
        content = json.loads(self.index_path.read_text(encoding="utf-8"))
        entries = content.get("cases") if isinstance(content, dict) else None
        if not entries:
            pytest.fail(f"{self.index_path} holds no list of cases", pytrace=False)
        found = []
        for number, entry in enumerate(entries):
            for name in ("family", "file"):
                if name not in entry:
                    pytest.fail(f"{self.index_path}: case {number} (from 0) has no {name}", pytrace=False)
            files = [entry["file"]]
            if "*" in entry["file"]:
                files = sorted(path.name for path in self.folder().glob(entry["file"]))
            found += [Case(entry["family"], file, entry, Path(os.environ.get(self.variable, ""))) for file in files]
        return found

    def cases(self, *families: str) -> list[Case]:
        """The cases of these families, for ``pytest.mark.parametrize("case", marked(cases(...)))``."""
        self.folder()
        return [case for case in self.index() if case.family in families]

    def weights(self) -> ModuleType:
        """``weights.py`` of the folder: makes parameters and inputs."""
        return _module(self.folder() / "weights.py")

    def golden(self) -> ModuleType:
        """``golden.py`` of the folder: reads and compares stored outputs."""
        return _module(self.folder() / "golden.py")

    def unclaimed_files(self) -> tuple[set[str], set[str]]:
        """Files of the folder that no case names, and files that a case names and the folder lacks."""
        folder = self.folder()
        data = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.suffix in SUFFIXES}
        data -= {name for name in data if (folder / name).resolve() == self.index_path.resolve()}
        named: set[str] = set().union(*(case.files for case in self.index()))
        return data - named, named - data


def marked(found: list[Case]) -> list[Any]:
    """The cases as parameters of a test, those that take minutes and gigabytes marked ``slow``."""
    return [pytest.param(case, marks=[pytest.mark.slow] if case.get("slow") else [], id=case.id) for case in found]


def families_asked_for(tests: Path) -> set[str]:
    """The families that the tests of a folder ask for: the words in their calls of `cases`."""
    found = set()
    for file in tests.glob("test_*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "cases":
                found |= {argument.value for argument in node.args if isinstance(argument, ast.Constant)}
    return found


@cache
def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{path.parent.name}_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
