"""The Dockerfile fits the project: sources, Python, system packages, environment. No image is built here."""

import re
import shlex
import subprocess
import tomllib
from fnmatch import fnmatch

import pytest

from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
IGNORE = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()


def instructions() -> list[tuple[str, str]]:
    """Names and arguments of the Dockerfile's instructions, with their continued lines."""
    lines = [line for line in (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [(name, " ".join(rest.split())) for name, _, rest in (line.partition(" ") for line in joined if line.strip())]


def arguments(name: str) -> list[str]:
    """The arguments of all instructions of a name."""
    return [rest for instruction, rest in instructions() if instruction == name]


def sources() -> list[str]:
    """What is copied from the project."""
    return [word for rest in arguments("COPY") if "--from=" not in rest for word in rest.split()[:-1]]


def ignored(path: str) -> bool:
    """Whether Docker leaves a path out: the last pattern that matches it or a folder above it decides."""
    parts = path.split("/")
    places = ["/".join(parts[: end + 1]) for end in range(len(parts))]
    left_out = False
    for line in IGNORE:
        pattern = line.removeprefix("!").removeprefix("**/")
        names = parts if "**/" in line else [place for place in places if place.count("/") == pattern.count("/")]
        if line and not line.startswith("#") and any(fnmatch(name, pattern) for name in names):
            left_out = not line.startswith("!")
    return left_out


def test_only_known_instructions_are_used() -> None:
    assert {name for name, _ in instructions()} <= {"FROM", "RUN", "ENV", "WORKDIR", "COPY", "USER", "CMD"}


def test_python_is_one_that_the_project_runs_on() -> None:
    images = {rest.split()[0] for rest in arguments("FROM")}
    (image,) = images
    version = re.fullmatch(r"python:3\.(\d+)-slim", image)
    assert version is not None
    lowest, beyond = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", PROJECT["requires-python"]).groups()
    assert int(lowest) <= int(version[1]) < int(beyond)


def test_what_is_copied_is_there_and_is_sent_to_docker() -> None:
    assert [name for name in sources() if not (ROOT / name).exists()] == []
    assert [name for name in sources() if ignored(name)] == []


def test_every_file_that_the_pipeline_names_is_in_the_image() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.splitlines()
    if not tracked:
        pytest.skip("no Git repository")
    wanted = [name for name in tracked if name.startswith(("stages/", "weakclip/", "data/raw/"))]
    wanted += ["dvc.yaml", "params.yaml", ".dvc/config", ".dvcignore", "pyproject.toml", *PROJECT["license-files"]]
    copied = sources()
    assert [name for name in wanted if not any(name == place or name.startswith(f"{place}/") for place in copied)] == []
    assert [name for name in wanted if ignored(name)] == []


@pytest.mark.parametrize(
    "path",
    [
        ".git/HEAD",
        ".venv/bin/python",
        "data/features/index.json",
        "data/raw/local/1.jpg",
        ".resume/a",
        "stages/__pycache__/a.pyc",
    ],
)
def test_nothing_of_this_machine_is_sent_to_docker(path: str) -> None:
    assert ignored(path)


def test_system_packages_are_those_of_continuous_integration() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    packages = {
        name for rest in arguments("RUN") for part in re.findall(r"apt-get install ([^&]*)", rest) for name in part.split()
    }
    packages = {name for name in packages if not name.startswith("--")}
    assert packages == {"g++", "git"}
    assert [name for name in packages if f"missing+=({name})" not in script] == []


def test_extras_exist() -> None:
    extras = {name for rest in arguments("RUN") for part in re.findall(r"\.\[([\w,]+)\]", rest) for name in part.split(",")}
    assert extras and extras <= set(PROJECT["optional-dependencies"])


def test_waiting_threads_sleep_as_under_make() -> None:
    exported = dict(
        re.findall(r"^export (OMP_WAIT_POLICY|GOMP_SPINCOUNT) := (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    )
    environment = dict(word.split("=", 1) for rest in arguments("ENV") for word in shlex.split(rest))
    assert len(exported) == 2 and exported.items() <= environment.items()


def test_it_runs_the_pipeline_and_not_as_root() -> None:
    assert instructions()[-1] == ("CMD", '["dvc", "repro"]')
    assert arguments("USER") == ["weakclip"]
