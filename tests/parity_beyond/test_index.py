"""Every file and every array of the folder is read by a test, and every test has a case."""

import os
from pathlib import Path

import pytest

from tests.parity_beyond.cases import DATA, Stored, folder, index
from tests.parity_data import families_asked_for

HERE = Path(__file__).parent


def test_every_case_has_a_test() -> None:
    folder()
    assert {case.family for case in index()} - families_asked_for(HERE) == set()


def test_every_file_of_the_folder_has_a_case() -> None:
    unclaimed, missing = DATA.unclaimed_files()
    assert unclaimed == set(), "files that no case of the index names"
    assert missing == set(), "files that the index names and the folder lacks"


def test_every_array_of_a_file_is_claimed_by_a_case() -> None:
    folder()
    by_file = {case.file: [other for other in index() if other.file == case.file] for case in index()}
    for file, claimants in by_file.items():
        if file.endswith(".npz"):
            left = [name for name in Stored(claimants[0]).names if not any(case.claims(name) for case in claimants)]
            assert left == [], f"{file} has arrays that no case claims"


@pytest.mark.skipif(DATA.index_variable in os.environ, reason="another index may hold fewer families")
def test_every_test_has_a_case() -> None:
    folder()
    assert families_asked_for(HERE) - {case.family for case in index()} == set()
