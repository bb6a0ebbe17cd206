"""The tiny world of the fault tests, made once."""

from collections.abc import Iterator

import pytest

from tests.faults.nursery import Nursery
from tests.faults.world import World, make_world


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A project in which all stages have run; a test leaves it so."""
    folder = tmp_path_factory.mktemp("faults")
    with Nursery(folder / "scratch") as nursery:
        yield make_world(folder / "project", nursery)
