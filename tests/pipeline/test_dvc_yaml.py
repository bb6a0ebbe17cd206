"""`dvc.yaml` says the truth about the stages: their code, paths and parameters; DVC itself checks none of it."""

import ast
from collections.abc import Iterator
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.conftest import ROOT
from weakclip.params import names
from weakclip.resume import import_closure

STAGES: dict[str, dict[str, Any]] = YAML(typ="safe", pure=True).load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
NAMES = sorted(STAGES)

PLUMBING = {
    "stages/__init__.py",
    "stages/_cli.py",
    "stages/_launch.py",
    "weakclip/__init__.py",
    "weakclip/errors.py",
    "weakclip/params.py",
    "weakclip/params_schema.py",
    "weakclip/progress.py",
    "weakclip/ranks.py",
    "weakclip/resume.py",
    "weakclip/runlog.py",
    "weakclip/workers.py",
}
"""Code that cannot change a result: values of parameters are tracked on their own, since the schema has no defaults."""

WEIGHTS = {
    "weakclip/clip/model.py": "weakclip/weights/mini_clip.safetensors",
    "weakclip/deeplab/encoders.py": "weakclip/weights/mini_encoder.safetensors",
    "weakclip/second_encoder.py": "weakclip/weights/mini_encoder.safetensors",
}
"""Files that a module reads from the package, which no import shows."""

PHOTOS = ("data/raw", "data/raw/photos")
"""Both: DVC follows the link `photos` where it is a dependency itself, and no link inside a folder."""


def paths(entries: list[str | dict[str, Any]]) -> list[str]:
    """Return the paths of a list of deps or outs, whose entries may carry options."""
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def code_deps(stage: str) -> set[str]:
    """Return the Python files that the stage's deps name, folders spread out."""
    found = set()
    for path in paths(STAGES[stage]["deps"]):
        if path.startswith(("stages/", "weakclip/")):
            place = ROOT / path
            files = place.rglob("*.py") if place.is_dir() else [place] if path.endswith(".py") else []
            found |= {file.relative_to(ROOT).as_posix() for file in files}
    return found


def closure(stage: str) -> set[str]:
    """Return the Python files that the stage's module runs."""
    return {path.relative_to(ROOT).as_posix() for path in import_closure(ROOT / "stages" / f"{stage}.py", ROOT)}


def defaults(stage: str) -> set[str]:
    """Return the paths that the stage's command reads and writes when it is given none: `Path("...")` in main's signature."""
    tree = ast.parse((ROOT / "stages" / f"{stage}.py").read_text(encoding="utf-8"))
    main = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "main")
    calls = [node for node in main.args.defaults if isinstance(node, ast.Call) and ast.unparse(node.func) == "Path"]
    return {ast.literal_eval(call.args[0]) for call in calls} - {"params.yaml"}


def overlap(one: str, other: str) -> bool:
    """Return whether two paths are the same or one lies in the other."""
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")


def read_params(stage: str) -> set[str]:
    """Return the dotted names, of values or whole sections, that the stage's own module reads from the parameters."""
    tree = ast.parse((ROOT / "stages" / f"{stage}.py").read_text(encoding="utf-8"))
    variables = {"p": ""} if any(isinstance(node, ast.arg) and node.arg == "p" for node in ast.walk(tree)) else {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            root, chain = unwind(node.value)
            if isinstance(root, ast.Call) and ast.unparse(root.func) in ("load", "params.load", "parameters.load"):
                variables[node.targets[0].id] = "".join(f"{part}." for part in chain)
    known = {*names(), *(name.rpartition(".")[0] for name in names())} - {""}
    found = set()
    for node in ast.walk(tree):
        root, chain = unwind(node)
        if isinstance(root, ast.Name) and root.id in variables and chain:
            name = variables[root.id] + ".".join(chain)
            while name and name not in known:
                name = name.rpartition(".")[0]
            found.add(name)
    return {name for name in found if not any(other.startswith(f"{name}.") for other in found)} - {""}


def unwind(node: ast.AST) -> tuple[ast.AST, list[str]]:
    """Split `a.b.c` into the node of `a` and the names b, c."""
    chain: list[str] = []
    while isinstance(node, ast.Attribute):
        chain.insert(0, node.attr)
        node = node.value
    return node, chain


def within(name: str, claim: str) -> bool:
    """Return whether a parameter is the claimed one or belongs to the claimed section."""
    return name == claim or name.startswith(f"{claim}.")


def claims(stage: str) -> Iterator[str]:
    """Yield the names of single values that the stage's params cover."""
    for claim in STAGES[stage].get("params", []):
        yield from (name for name in names() if within(name, claim))


@pytest.mark.parametrize("stage", NAMES)
def test_code_deps_are_the_import_closure(stage: str) -> None:
    wanted = closure(stage) - PLUMBING
    found = code_deps(stage)
    assert found == wanted, f"missing: {sorted(wanted - found)}; too many: {sorted(found - wanted)}"


@pytest.mark.parametrize("stage", NAMES)
def test_files_read_from_the_package_are_deps(stage: str) -> None:
    files = {file for module, file in WEIGHTS.items() if module in closure(stage)}
    assert files <= set(paths(STAGES[stage]["deps"]))


@pytest.mark.parametrize("stage", NAMES)
def test_command_defaults_are_deps_or_outs(stage: str) -> None:
    known = paths(STAGES[stage]["deps"]) + paths(STAGES[stage]["outs"])
    assert [path for path in defaults(stage) if not any(overlap(path, other) for other in known)] == []


@pytest.mark.parametrize("stage", NAMES)
def test_outs_and_data_deps_are_command_defaults(stage: str) -> None:
    entries = [path for path in paths(STAGES[stage]["deps"]) if path.startswith("data/") and path not in PHOTOS]
    entries += paths(STAGES[stage]["outs"])
    assert [path for path in entries if not any(overlap(path, other) for other in defaults(stage))] == []


@pytest.mark.parametrize("stage", NAMES)
def test_stage_declares_the_parameters_it_reads(stage: str) -> None:
    claimed = set(STAGES[stage].get("params", []))
    read = read_params(stage)
    assert {name for name in read if not any(within(name, claim) for claim in claimed)} == set()
    assert {claim for claim in claimed if not any(within(name, claim) for name in read)} == set()


def test_every_parameter_is_claimed_by_a_stage() -> None:
    assert set(names()) - {name for stage in NAMES for name in claims(stage)} == set()


@pytest.mark.parametrize("stage", NAMES)
def test_claimed_parameters_exist(stage: str) -> None:
    known = {*names(), *(name.rpartition(".")[0] for name in names())}
    assert set(STAGES[stage].get("params", [])) <= known


@pytest.mark.parametrize("stage", NAMES)
def test_stage_is_run_as_a_module_and_described(stage: str) -> None:
    assert STAGES[stage]["cmd"] == f"python -m stages.{stage}"
    assert STAGES[stage]["desc"]


@pytest.mark.parametrize("stage", NAMES)
def test_every_stage_reads_photos_or_imported_seeds_and_depends_on_their_two_places(stage: str) -> None:
    assert set(PHOTOS) <= set(paths(STAGES[stage]["deps"]))


def test_only_evaluate_has_uncached_outs() -> None:
    uncached = {
        stage
        for stage in NAMES
        for entry in STAGES[stage]["outs"]
        if isinstance(entry, dict) and next(iter(entry.values())).get("cache") is False
    }
    assert uncached == {"evaluate"}  # it turns DVC's run cache off for the stage
