"""Every case of the index is read by a test, and every test has a case."""

import os
from pathlib import Path

import pytest

from tests.parity.cases import DATA, index
from tests.parity_data import families_asked_for

HERE = Path(__file__).parent


def test_every_case_has_a_test() -> None:
    assert {case.family for case in index()} - families_asked_for(HERE) == set()


def test_every_file_of_the_folder_has_a_case() -> None:
    unclaimed, missing = DATA.unclaimed_files()
    assert unclaimed == set(), "files that no case of the index names"
    assert missing == set(), "files that the index names and the folder lacks"


@pytest.mark.skipif(DATA.index_variable in os.environ, reason="another index may hold fewer families")
def test_every_test_has_a_case() -> None:
    assert families_asked_for(HERE) - {case.family for case in index()} == set()
