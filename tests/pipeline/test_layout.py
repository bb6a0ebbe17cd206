"""The directions in which the code depends on itself, read from the source."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from weakclip.resume import import_closure

LIBRARY = sorted((ROOT / "weakclip").rglob("*.py"))
COMMANDS = sorted((ROOT / "stages").glob("*.py"))
JUNK_DRAWERS = {"utils.py", "util.py", "misc.py", "common.py", "helpers.py"}
HEAVY = {"torch", "torchvision", "open_clip", "timm", "segmentation_models_pytorch", "lightning"}


def imported(file: Path) -> set[str]:
    """Return the names of the modules that the file imports, at any depth of the code."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("." * node.level + (node.module or ""))
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def relative(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("file", LIBRARY, ids=relative)
def test_library_knows_neither_stages_nor_their_parameters(file: Path) -> None:
    names = imported(file)
    assert not {name for name in names if name.split(".")[0] in ("stages", "tests", "typer", "dvc")}
    if file.name not in ("params.py", "params_schema.py"):
        assert not {name for name in names if name.startswith(("weakclip.params", "pydantic"))}


@pytest.mark.parametrize("file", [*LIBRARY, *COMMANDS], ids=relative)
def test_imports_are_absolute_and_own_ones_at_module_level(file: Path) -> None:
    assert not {name for name in imported(file) if name.startswith(".")}
    tree = ast.parse(file.read_text(encoding="utf-8"))
    inside = {
        node.lineno
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("stages", "weakclip")
    }
    # The program's commands start without torch; doctor says what cannot be imported; the stages and processes that may use PAR
    # or the dense CRF in torch mostly use pydensecrf, which does without torch.
    late = ("stages/cli.py", "stages/doctor.py", "weakclip/crf.py", "weakclip/par.py", "weakclip/sharpening.py")
    assert not inside or relative(file) in late


def test_package_itself_imports_nothing() -> None:
    assert imported(ROOT / "weakclip" / "__init__.py") == set()


@pytest.mark.parametrize("file", [*LIBRARY, *COMMANDS], ids=relative)
def test_no_module_is_a_junk_drawer(file: Path) -> None:
    assert file.name not in JUNK_DRAWERS


@pytest.mark.parametrize("stage", ["prepare_dataset", "refine_masks"])
def test_stage_needs_no_torch(stage: str) -> None:
    files = import_closure(ROOT / "stages" / f"{stage}.py", ROOT)
    heavy = {relative(file): sorted({name.split(".")[0] for name in imported(file)} & HEAVY) for file in files}
    # Ranks talk to each other through torch, which only those import that torchrun has started; PAR is computed with it, and
    # the dense CRF where that is asked for.
    sharpeners = [f"weakclip/{name}.py" for name in ("par", "torch_crf", "permutohedral", "device")]
    allowed = {"weakclip/ranks.py", *(sharpeners if stage == "refine_masks" else ())}
    assert {file: names for file, names in heavy.items() if names} == {name: ["torch"] for name in allowed}
    code = f"import sys, stages.{stage}; print(sorted({HEAVY} & {{*sys.modules}}))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stdout == "[]\n"


def test_every_module_belongs_to_a_command() -> None:
    used = {path for command in COMMANDS for path in import_closure(command, ROOT)}
    assert [relative(file) for file in LIBRARY if file not in used] == []
