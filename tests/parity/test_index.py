"""Every case of the index is read by a test, and every test has a case."""

import ast
import os
from pathlib import Path

import pytest

from tests.parity.cases import INDEX, index

HERE = Path(__file__).parent


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


@pytest.mark.skipif(INDEX in os.environ, reason="another index may hold fewer families")
def test_every_test_has_a_case() -> None:
    assert asked_for() - {case.family for case in index()} == set()
