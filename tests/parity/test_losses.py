"""Losses of a batch and their gradients through the whole network; a few steps of training."""

import math

import numpy as np
import pytest
import torch

from tests.parity.batches import NAMES, accuracy, crfs, make_batch, make_labels, objective, without_drops
from tests.parity.cases import Case, cases, golden, marked, read_json
from tests.parity.networks import load_network, manifest, released_state
from weakclip.crf import dense_crf
from weakclip.objective import add_gradients, probabilities_at
from weakclip.released.names import decoder_layers, our_name
from weakclip.released.training import released_groups, released_schedule

TOLERANCE = {"boundary_loss": 2e-2, "seeding_loss": 1e-4, "score_map_loss": 1e-4}


def close_norms(got: dict[str, float], expected: dict[str, float], rtol: float, atol: float) -> None:
    """Compares figures by parameter, and says which are off."""
    wrong = {
        name: (got[name], value)
        for name, value in expected.items()
        if not math.isclose(got[name], value, rel_tol=rtol, abs_tol=atol)
    }
    assert wrong == {}


@pytest.mark.parametrize("case", marked(cases("losses")))
def test_losses_and_gradients(case: Case) -> None:
    stored, network = golden().Golden(case.path), load_network(case)
    batch, aim = make_batch(case, network), objective(case)
    model = without_drops(network.model).train(case["mode"] == "train")
    losses = add_gradients(model, batch, aim, crfs(model, batch, aim))
    for theirs, ours in NAMES.items():
        stored.check(theirs, losses[ours].numpy().reshape(1), atol=0, rtol=TOLERANCE[ours])
    if case["mode"] == "train":
        state = model.state_dict()
        layers = decoder_layers(manifest(case["manifest"])["keys"])
        for name in (name for name in stored.names() if name.startswith("after:")):
            stored.check(name, state[our_name(name.removeprefix("after:"), layers)].numpy(), **case.tolerance)
    if "grad_norms" in case.fields:
        check_gradients(case, model)


def check_gradients(case: Case, model: torch.nn.Module) -> None:
    expected = read_json(case, "grad_norms")
    layers = decoder_layers(expected)
    ours = {name: our_name(name, layers) for name in expected}
    # What has no gradient there is no part of our network.
    assert {name for name, value in expected.items() if value is None} == {name for name, own in ours.items() if own is None}
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert set(gradients) == {own for own in ours.values() if own is not None}
    known = {name: value for name, value in expected.items() if value is not None}
    close_norms({name: float(gradients[ours[name]].norm()) for name in known}, known, rtol=3e-2, atol=1e-5)
    stored = golden().Golden(case.path)
    for name in (name for name in stored.names() if name.startswith("grad:")):
        target = stored.stored(name)
        gradient = gradients[ours[name.removeprefix("grad:")]].numpy().reshape(target.shape)
        assert np.linalg.norm(gradient - target) <= 3e-2 * np.linalg.norm(target)


@pytest.mark.parametrize("case", marked(cases("losses")))
def test_what_the_losses_look_at(case: Case) -> None:
    stored = golden().Golden(case.path)
    network = load_network(case)
    batch, aim = make_batch(case, network), objective(case)
    model = without_drops(network.model).train(case["mode"] == "train")
    with torch.no_grad():
        logits, scores = model(model.encode(batch.images), batch.height, batch.width)
        probabilities = probabilities_at(logits, aim.size, aim.align_odd_sizes)
    accuracy_there = float(stored.stored("aux_identity.acc_seg")[0])
    assert accuracy(scores, batch.seeds) == pytest.approx(accuracy_there, abs=0.1)
    if "probs" not in stored.names():
        return
    stored.check("labels", make_labels(case), atol=0, rtol=0)
    stored.check("photo_rgb", batch.images.permute(0, 2, 3, 1).numpy(), atol=0, rtol=0)
    stored.check("probs", probabilities.numpy(), atol=case["atol"], rtol=0)
    difference = np.abs(batch.photos.astype(int) - stored.stored("crf_image"))
    assert (difference == 0).mean() >= 0.9 and difference.max() <= 1
    given = zip(stored.stored("crf_image"), stored.stored("crf_probs"), stored.stored("crf_q"), strict=True)
    for photo, floored, expected in given:
        refined = dense_crf(photo, floored, aim.boundary_kernel, aim.boundary_floor)
        np.testing.assert_allclose(refined, expected, atol=1e-4)


@pytest.mark.parametrize("case", marked(cases("mini_training")))
def test_mini_training(case: Case) -> None:
    stored, network = read_json(case), load_network(case)
    recipe, schedule = stored["optimizer"], stored["schedule"]
    model = network.model.eval()
    groups = released_groups(model, recipe["weight_decay"])
    optimizer = torch.optim.AdamW(groups, lr=recipe["lr"], betas=tuple(recipe["betas"]), eps=recipe["eps"])
    for step, row in enumerate(stored["history"]):
        rates = [
            released_schedule(
                step,
                lr=base,
                iterations=schedule["max_iters"],
                warmup=schedule["warmup_iters"],
                min_lr=schedule["min_lr"],
                warmup_ratio=schedule["warmup_ratio"],
            )
            for base in (recipe["lr"], 0.0)
        ]
        assert rates == pytest.approx([row["lr_other"], row["lr_backbone"]], rel=1e-9, abs=1e-15)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        optimizer.zero_grad()
        batch, aim = make_batch(case, network), objective(case)
        losses = add_gradients(model, batch, aim, crfs(model, batch, aim))
        for theirs, ours in NAMES.items():
            rtol = 5e-2 if ours == "boundary_loss" else 5e-3
            assert losses[ours].item() == pytest.approx(row[theirs], rel=rtol)
        optimizer.step()

    start, end = released_state(case["manifest"], case["seed"]), model.state_dict()
    layers = decoder_layers(start)
    moved = {}
    for name in stored["update_norms"]:
        ours = our_name(name, layers)
        moved[name] = 0.0 if ours is None else float((end[ours] - start[name].reshape(end[ours].shape)).norm())
    close_norms(moved, stored["update_norms"], rtol=5e-2, atol=0.0)
