"""Two ranks with half a batch each compute what one computes with the whole."""

import re

import pytest
import torch
from torch.nn import functional

from tests.torchrun import torchrun
from weakclip.whole_batch import batch_norm

# Two ranks add in another order: float32's rounding, or that of double precision for the networks with many norms.
TOLERANCES = {
    "repaired": 1e-5,
    "torch_crf": 1e-5,
    "noise": 1e-5,
    "micro_batches": 1e-5,
    "published": 1e-5,
    "deeplabv3plus": 1e-12,
    "deeplabv1": 1e-12,
    "cam": 1e-6,
}


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> str:
    result = torchrun("tests.two_ranks", tmp_path_factory.mktemp("ranks"))
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("network", TOLERANCES)
def test_losses_gradients_and_statistics_are_those_of_the_whole_batch(printed: str, network: str) -> None:
    (line,) = re.findall(rf"^{network} (loss .*)$", printed, re.MULTILINE)
    differences = {kind: float(share) for kind, share in (pair for pair in re.findall(r"(\w+) ([\d.e+-]+)", line))}
    assert differences.keys() == {"loss", "gradients", "statistics"}
    assert max(differences.values()) < TOLERANCES[network], differences
    assert f"{network} the same bits on both ranks True" in printed


def test_ranks_tell_share_wait_and_part(printed: str) -> None:
    assert "[0, 1] ace 2 torch.Size([2, 1])\n" in printed
    assert printed.index("first\n") < printed.index("second\n")
    assert printed.count("the rest is for the main rank\n") == 1


def test_statistics_of_bfloat16_are_of_float32() -> None:
    inputs = (100 + torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))).bfloat16()
    mean, variance, wanted_mean, wanted_variance = (start(3) for start in 2 * (torch.zeros, torch.ones))
    found = batch_norm(inputs, mean, variance, training=True, momentum=1.0)
    wanted = functional.batch_norm(inputs.float(), wanted_mean, wanted_variance, training=True, momentum=1.0)
    torch.testing.assert_close((mean, variance), (wanted_mean, wanted_variance))
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), wanted, rtol=0.01, atol=0.01)
