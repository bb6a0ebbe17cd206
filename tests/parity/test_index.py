"""Every case of the index is read by a test, and every test has a case."""

import ast
import os
from pathlib import Path

import pytest

from tests.parity.cases import INDEX, OWN_INDEX, folder, index

HERE = Path(__file__).parent
DATA = {".json", ".npy", ".npz", ".txt"}
"""Suffixes of the folder's data; what else it holds explains or reads them."""


def asked_for() -> set[str]:
    """The families that the tests of this folder ask for: the words in their calls of `cases`."""
    found = set()
    for file in HERE.glob("test_*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "cases":
                found |= {argument.value for argument in node.args if isinstance(argument, ast.Constant)}
    return found


def test_every_case_has_a_test() -> None:
    assert {case.family for case in index()} - asked_for() == set()


def test_every_file_of_the_folder_has_a_case() -> None:
    data = {str(path.relative_to(folder())) for path in folder().rglob("*") if path.suffix in DATA}
    index_itself = Path(os.environ.get(INDEX) or OWN_INDEX).resolve()
    data -= {name for name in data if (folder() / name).resolve() == index_itself}
    named = set().union(*(case.files for case in index()))
    assert data - named == set(), "files that no case of the index names"
    assert named - data == set(), "files that the index names and the folder lacks"


@pytest.mark.skipif(INDEX in os.environ, reason="another index may hold fewer families")
def test_every_test_has_a_case() -> None:
    assert asked_for() - {case.family for case in index()} == set()
