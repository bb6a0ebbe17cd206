"""Random streams by purpose."""

import torch

from weakclip.seeding import rng, seed_torch


def test_a_stream_follows_from_its_key_alone() -> None:
    assert rng(0, "a", 3).random() == rng(0, "a", 3).random()
    assert len({rng(*key).random() for key in [(0, "a", 3), (0, "b", 3), (1, "a", 3), (0, "a", 4)]}) == 4


def test_torch_is_seeded_by_purpose() -> None:
    seed_torch(0, "x")
    first = torch.rand(1)
    seed_torch(0, "y")
    other = torch.rand(1)
    seed_torch(0, "x")
    assert torch.equal(first, torch.rand(1)) and not torch.equal(first, other)
