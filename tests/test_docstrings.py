"""Every public module, class and function says what it is; those that take or give arrays say which shapes."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

FILES = sorted([*(ROOT / "weakclip").rglob("*.py"), *(ROOT / "stages").rglob("*.py")])
SCHEMA = ROOT / "weakclip" / "params_schema.py"
ARRAY = re.compile(r"Tensor|NDArray\[.*\]|Mask|Photo|Pixels|Floats")
SHAPE = re.compile(r"\([^()]*,[^()]*\)|\(\w+\)|any shape|of one number|`[\w.]+`")  # the last: what another function says
Definition = ast.FunctionDef | ast.ClassDef


def relative(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def definitions(body: list[ast.stmt], owner: ast.ClassDef | None = None) -> Iterator[tuple[ast.ClassDef | None, Definition]]:
    """Public classes and functions of a module, and public methods, each with its class."""
    for node in body:
        if isinstance(node, Definition) and not node.name.startswith("_"):
            yield owner, node
            if isinstance(node, ast.ClassDef):
                yield from definitions(node.body, node)


def says_it_elsewhere(owner: ast.ClassDef | None, node: Definition, documented: set[str]) -> bool:
    """A forward pass that its class describes; a method that a protocol of the module describes."""
    if owner is None:
        return False
    described = node.name == "forward" and re.search(r"->|forward|\(B", ast.get_docstring(owner) or "") is not None
    return described or node.name in documented


@pytest.mark.parametrize("file", FILES, ids=relative)
def test_everything_public_has_a_docstring(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    found = list(definitions(tree.body))
    protocols = [node for _, node in found if isinstance(node, ast.ClassDef) and "Protocol" in map(ast.unparse, node.bases)]
    documented = {node.name for owner, node in found if owner in protocols and ast.get_docstring(node)}
    bare = [
        node.name for owner, node in found if not ast.get_docstring(node) and not says_it_elsewhere(owner, node, documented)
    ]
    if file == SCHEMA:
        bare = [name for name in bare if not name.endswith("Params")]  # what each field is, stands below it
    assert bare == []


def test_every_parameter_has_a_docstring_below_it() -> None:
    tree = ast.parse(SCHEMA.read_text(encoding="utf-8"))
    sections = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name.endswith("Params")]
    bare = []
    for section in sections:
        for field, after in zip(section.body, [*section.body[1:], None], strict=True):
            if isinstance(field, ast.AnnAssign) and not (isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)):
                bare.append(f"{section.name}.{ast.unparse(field.target)}: {ast.unparse(field.annotation)}")
    assert [name for name in bare if "Params" not in name.split(": ")[1]] == []


@pytest.mark.parametrize("file", FILES, ids=relative)
def test_functions_of_arrays_give_their_shapes(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    silent = []
    for _, node in definitions(tree.body):
        text = ast.get_docstring(node)
        if not isinstance(node, ast.FunctionDef) or text is None:
            continue
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        kinds = [ast.unparse(kind) for kind in [*(argument.annotation for argument in arguments), node.returns] if kind]
        if any(ARRAY.fullmatch(kind) for kind in kinds) and not SHAPE.search(text):
            silent.append(f"{node.name}: {text.splitlines()[0]}")
    assert silent == []
