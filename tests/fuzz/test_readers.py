"""A bounded run of every reader: the kept files, and seeded changes of them."""

from __future__ import annotations

import pytest

from tests.fuzz.mutation import fuzz
from tests.fuzz.readers import CORPUS, READERS, seeds

RUNS = 800


@pytest.mark.parametrize("name", READERS)
@pytest.mark.filterwarnings("ignore")  # numpy and PIL warn of what they refuse
def test_whatever_the_bytes_it_returns_or_refuses(name: str) -> None:
    assert fuzz(READERS[name], seeds(name), seed=0, runs=RUNS) == RUNS


def test_the_corpus_is_small_and_has_a_sound_file_of_every_reader() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(READERS)
    assert sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()) < 50_000


def test_a_reader_that_fails_is_shown_with_its_file() -> None:
    def fails(content: bytes) -> None:
        assert b"\xff" not in content

    with pytest.raises(AssertionError, match=r"fails: AssertionError.*\n[0-9a-f]*ff"):
        fuzz(fails, [b"abc"], seed=0, runs=500)
