"""Class texts enriched by descriptions."""

import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from weakclip.cam.descriptions import describe_bank, enrich, read_descriptions
from weakclip.errors import WeakClipError


def test_sentences_come_class_by_class(tmp_path: Path) -> None:
    path = tmp_path / "descriptions.json"
    path.write_text(json.dumps({"dog": ["it barks"], "cat": ["it purrs", "it has whiskers"]}))
    assert read_descriptions(path, ("cat", "dog", "bird")) == ("it purrs", "it has whiskers", "it barks")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "line 1 is not JSON"),
        ("[]", "holds no descriptions by class"),
        ('{"fish": ["it swims"]}', "'fish' is not a class"),
        ('{"cat": []}', "descriptions of 'cat' are not a list of sentences"),
        ('{"cat": "it purrs"}', "descriptions of 'cat' are not a list of sentences"),
        ('{"cat": ["it purrs"], "cat": ["it has whiskers"]}', "'cat' is described a second time"),
        ('{"cat": ["\\ud800"]}', "a description of 'cat' is not Unicode"),
        ("[" * 100_000, "cannot be read as JSON"),
        ('{"cat": [' + "1" * 5000 + "]}", "cannot be read as JSON"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: str, problem: str) -> None:
    path = tmp_path / "descriptions.json"
    path.write_text(content)
    with pytest.raises(WeakClipError, match=problem):
        read_descriptions(path, ("cat",))


def test_clusters_are_the_means_of_what_is_alike() -> None:
    groups = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    shifts = torch.tensor([[0.02, 0.01], [-0.02, -0.01]])
    embeddings = (groups[:, None] + shifts).flatten(0, 1)
    bank = describe_bank(embeddings, 3, seed=0)
    assert torch.allclose(bank[bank[:, 0].argsort()], groups[groups[:, 0].argsort()], atol=1e-6)
    assert torch.equal(bank, describe_bank(embeddings, 3, seed=0))


def test_there_are_no_more_clusters_than_different_sentences() -> None:
    assert describe_bank(torch.eye(3)[[0, 1, 1, 0]], 4, seed=0).shape == (2, 3)


def test_an_enriched_text_leans_to_what_is_like_it() -> None:
    texts = torch.tensor([[1.0, 0.0, 0.0]])
    bank = torch.tensor([[0.8, 0.6, 0.0], [0.0, 0.0, 1.0]])
    enriched = enrich(texts, bank, dropped=1)  # the second entry is not like it at all
    assert torch.allclose(enriched, functional.normalize(texts + bank[:1], dim=-1))
    assert enrich(texts, bank)[0, 2] > 0  # a tenth of two is none
