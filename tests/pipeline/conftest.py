"""One real run of the pipeline on a very small mini world, of which tests that need a finished project take copies."""

import shutil
from pathlib import Path

import pytest

from tests.conftest import Project, make_project


@pytest.fixture(scope="session")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, str]:
    """A project after `dvc repro`, committed, and what DVC printed. Tests leave it as it is."""
    project = make_project(tmp_path_factory.mktemp("first") / "project")
    said = project.dvc("repro")
    project.commit()
    return project, said


@pytest.fixture(scope="module")
def reproduced(first_run: tuple[Project, str], tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A copy of `first_run` for all tests of a module, which run in their order."""
    return copy_of(first_run[0], tmp_path_factory.mktemp("reproduced") / "project")


def copy_of(project: Project, folder: Path) -> Project:
    """The project in another place, its cache, its experiments and its history included."""
    shutil.copytree(project.folder, folder, symlinks=True)
    return Project(folder)
