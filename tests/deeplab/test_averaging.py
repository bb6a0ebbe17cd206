import pytest
import torch
from torch import nn

from weakclip.deeplab.averaging import MovingAverage, decay_of_step


def test_the_decay_rises_to_its_value() -> None:
    assert [decay_of_step(step, 0.9) for step in (1, 8, 80, 1000)] == pytest.approx([2 / 11, 0.5, 0.9, 0.9])


def test_weights_and_statistics_are_averaged_and_counters_copied() -> None:
    network = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    linear, norm = network[0], network[1]
    linear.weight.data.fill_(0.0)
    average = MovingAverage(network, 0.25)
    for value in (1.0, 2.0):  # decays of 2 / 11 and 0.25
        linear.weight.data.fill_(value)
        norm.running_mean.fill_(10 * value)
        norm.num_batches_tracked += 1
        average.update(network)
    state = average.network.state_dict()
    assert state["0.weight"].item() == pytest.approx(0.25 * 9 / 11 + 0.75 * 2)
    assert state["1.running_mean"].item() == pytest.approx(0.25 * 90 / 11 + 0.75 * 20)
    assert state["1.num_batches_tracked"].item() == 2
    assert linear.weight.item() == 2.0 and linear.weight.requires_grad


def test_the_average_goes_on_from_its_state() -> None:
    network = nn.Linear(3, 2)
    whole, half = MovingAverage(network, 0.99), MovingAverage(network, 0.99)
    states = [torch.randn(2, 3) for _ in range(4)]
    for average, steps in ((whole, states), (half, states[:2])):
        for state in steps:
            network.weight.data.copy_(state)
            average.update(network)
    resumed = MovingAverage(network, 0.99)
    resumed.load_state_dict(half.state_dict())
    for state in states[2:]:
        network.weight.data.copy_(state)
        resumed.update(network)
    assert torch.equal(resumed.network.weight, whole.network.weight) and int(resumed.steps) == 4
