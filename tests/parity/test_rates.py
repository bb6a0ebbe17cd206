"""Learning rates by iteration, and which parameter has which."""

import ast
from collections import defaultdict

import pytest
import torch

from tests.parity.cases import Case, cases, marked, read_json
from tests.parity.networks import classes, config, manifest, unwritten
from weakclip.clip.bare import bare_clip
from weakclip.network.published import build_published
from weakclip.network.weakclip import WeakClip
from weakclip.released.checkpoint import sizes_of
from weakclip.released.names import decoder_layers, our_name
from weakclip.released.training import MIN_LR, WARMUP_RATIO, released_groups, released_schedule


@pytest.mark.parametrize("case", marked(cases("lr_schedule")))
def test_rate_of_every_iteration(case: Case) -> None:
    stored, recipe = read_json(case), read_json(case, "recipe")
    assert recipe["warmup"] == "linear"
    for step, *expected in stored["rows"]:
        rates = [
            released_schedule(
                step,
                lr=lr,
                iterations=stored["max_iters"],
                warmup=recipe["warmup_iters"],
                min_lr=recipe["min_lr"],
                warmup_ratio=recipe["warmup_ratio"],
            )
            for lr in (recipe["base_lr"], 0.0, 0.0)
        ]
        assert rates == pytest.approx(expected, rel=1e-9, abs=1e-25)
    if case.get("released"):
        assert (recipe["min_lr"], recipe["warmup_ratio"]) == (MIN_LR, WARMUP_RATIO)


def shapes_only(case: Case) -> WeakClip:
    """The published network of the case's shapes; no tensor is filled."""
    state = {name: torch.empty(shape, device="meta") for name, (shape, _) in manifest(case["manifest"])["keys"].items()}
    architecture, sizes = sizes_of(case.path, state, unwritten(config(case)))
    return build_published(
        bare_clip(architecture, "none"), blocks=[architecture.layers - 1], class_names=classes(case).names, sizes=sizes
    )


@pytest.mark.parametrize("case", marked(cases("param_groups")))
def test_groups(case: Case) -> None:
    stored, shapes = read_json(case), manifest(case["manifest"])["keys"]
    layers, lr, weight_decay = decoder_layers(shapes), case["lr"], case["weight_decay"]
    model = shapes_only(case)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    # One base rate for each group; the released code has a group for each tensor.
    rate_of = {
        names[id(parameter)]: (rate, group["weight_decay"], parameter.requires_grad)
        for rate, group in zip((lr, 0.0), released_groups(model, weight_decay), strict=True)
        for parameter in group["params"]
    }
    assert rate_of.keys() == set(names.values())
    assert {name for name in shapes if our_name(name, layers) is None} == set(stored["never_receive_gradient"])

    buffers = ("running_mean", "running_var", "num_batches_tracked")
    counts: dict[str, dict[tuple[float, float, bool], list[int]]] = defaultdict(lambda: defaultdict(lambda: [0, 0]))
    for name, (shape, _) in shapes.items():
        if name.endswith(buffers):
            continue
        block = next(block for block in stored["groups"] if name == block or name.startswith(f"{block}."))
        ours = our_name(name, layers)
        # An unused tensor is in the group of its block there; here it does not exist.
        rates = rate_of[ours] if ours is not None else (lr, weight_decay, True)
        counts[block][rates][0] += 1
        counts[block][rates][1] += torch.Size(shape).numel()
    expected = {
        block: {ast.literal_eval(rates): count for rates, count in groups.items()} for block, groups in stored["groups"].items()
    }
    assert {block: dict(groups) for block, groups in counts.items()} == expected


@pytest.mark.parametrize("case", marked(cases("param_groups")))
def test_batch_norms_train(case: Case) -> None:
    stored = read_json(case)
    model = shapes_only(case).train()
    norms = {name for name, module in model.named_modules() if isinstance(module, torch.nn.BatchNorm2d) and module.training}
    layers = decoder_layers(manifest(case["manifest"])["keys"])
    expected = {our_name(f"{name}.weight", layers) for name in stored["batchnorm_layers_in_training_mode"]}
    assert {f"{name}.weight" for name in norms} == expected
    assert stored["requires_grad_false_after_train_mode"] == [
        name for name, parameter in model.named_parameters() if not parameter.requires_grad
    ]
