"""The numbers that tokens are kept in: what comes back, and how far it is off."""

import numpy as np
import pytest
import torch
from torch import Tensor

from weakclip.features.token_formats import FLOAT16, FORMATS, ByteTokens, Floats, TokenFormat

BYTES = ByteTokens()


def tokens(rows: int = 3) -> Tensor:
    """Like a CLIP's: channels of very different size, a few of them a hundred times the others."""
    draw = torch.Generator().manual_seed(0)
    sizes = torch.exp(torch.randn(64, generator=draw))
    sizes[:2] *= 100
    return torch.randn(rows, 50, 64, generator=draw) * sizes


def back(token_format: TokenFormat, given: Tensor) -> Floats:
    stored = [part.numpy() for part in token_format.encode(given)]
    return np.stack([token_format.decode([part[row] for part in stored]) for row in range(len(given))])


@pytest.mark.parametrize("name", ["float16", "int8"])
def test_what_is_stored_fits_its_columns(name: str) -> None:
    token_format = FORMATS[name]
    columns, stored = token_format.columns(3, 64), token_format.encode(tokens())
    assert token_format.name == name and len({column.name for column in columns}) == len(columns)
    for column, part in zip(columns, stored, strict=True):
        assert part.shape == (3, 1 if column.once_a_row else 50, *column.shape)
        assert part.numpy().dtype == np.dtype(column.dtype)


def test_float16_comes_back_as_rounded() -> None:
    np.testing.assert_array_equal(back(FLOAT16, tokens()), tokens().numpy().astype(np.float16))


def test_int8_is_off_by_at_most_half_a_step_of_its_channel() -> None:
    given = tokens().numpy()
    steps = np.abs(given).max(axis=1, keepdims=True) / 127
    assert (np.abs(back(BYTES, tokens()) - given) <= 0.5001 * steps).all()


def test_int8_keeps_tokens_of_normal_numbers_to_a_percent() -> None:
    given, kept = tokens().numpy(), back(BYTES, tokens())
    assert 0.004 < np.linalg.norm(kept - given) / np.linalg.norm(given) < 0.01
    cosine = (given * kept).sum(-1) / np.linalg.norm(given, axis=-1) / np.linalg.norm(kept, axis=-1)
    assert cosine.min() > 0.9998


def test_int8_takes_zeros_and_gives_zeros() -> None:
    given = tokens()
    given[:, :, 5] = 0
    kept = back(BYTES, given)
    assert not kept[:, :, 5].any() and np.isfinite(kept).all()


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_what_is_no_number_shows_in_what_is_stored(wrong: float) -> None:
    given = tokens()
    given[1, 7, 5] = wrong
    for token_format in FORMATS.values():
        finite = [torch.isfinite(part).flatten(1).all(dim=1).tolist() for part in token_format.encode(given)]
        assert [all(of_row) for of_row in zip(*finite, strict=True)] == [True, False, True]


@pytest.mark.parametrize("name", ["float16", "int8"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_decoding_into_an_array_gives_the_same(name: str, dtype: type) -> None:
    token_format = FORMATS[name]
    stored = [part[0].numpy() for part in token_format.encode(tokens())]
    out = np.empty((50, 64), dtype)
    token_format.decode_into(out, stored)
    np.testing.assert_array_equal(out, token_format.decode(stored).astype(dtype))
