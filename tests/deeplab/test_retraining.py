import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file
from torch import nn

from tests.deeplab.slim_resnet38 import make_slim
from weakclip.datasets.index import ClassList
from weakclip.deeplab import retraining
from weakclip.deeplab.deeplabv3plus import build as build_deeplabv3plus
from weakclip.deeplab.deeplabv3plus import set_training
from weakclip.deeplab.examples import Batch, Example
from weakclip.deeplab.network import DeepLab
from weakclip.deeplab.prediction import load_deeplab, predict_probabilities
from weakclip.deeplab.recipe import Retraining
from weakclip.deeplab.retraining import loss_of_batch, retrain, validation_subset
from weakclip.errors import WeakClipError
from weakclip.masks import IGNORE, write_mask
from weakclip.pixel_loss import PLAIN
from weakclip.runlog import StepLog
from weakclip.seeding import rng

CLASSES = ClassList(names=("disc", "box"), synonyms=((), ()), background_words=())
SETTINGS = Retraining(
    network="deeplabv3plus",
    encoder="mini",
    encoder_weights="none",
    output_stride=16,
    iterations=4,
    batch_size=2,
    lr=2e-3,
    encoder_lr_factor=1.0,
    weight_decay=1e-4,
    crop_size=32,
    scale=(1.0, 1.0),
    colour=0.0,
    validate_every=2,
    checkpoint_every=2,
)


KEY = "head.coarse.weight"


@pytest.fixture
def shapes(tmp_path: Path) -> tuple[Example, ...]:
    """Red discs and blue boxes on grey, with their masks."""
    y, x = np.mgrid[:48, :48]
    found = []
    for index in range(4):
        mask = ((y - 24) ** 2 + (x - 18 - 3 * index) ** 2 < 150).astype(np.uint8)
        if index % 2:
            mask = 2 * ((abs(y - 20 - index) < 12) & (abs(x - 24) < 14)).astype(np.uint8)
        colours = np.array([(120, 120, 120), (220, 40, 40), (40, 40, 220)], np.uint8)
        Image.fromarray(colours[mask]).save(tmp_path / f"{index}.png")
        write_mask(tmp_path / f"{index}.mask.png", mask)
        photo, truth = tmp_path / f"{index}.png", tmp_path / f"{index}.mask.png"
        found.append(Example(image_id=str(index), photo=photo, mask=truth, height=48, width=48))
    return tuple(found)


def run(settings: Retraining, shapes: tuple[Example, ...], folder: Path, log: StepLog | None = None) -> dict[str, float]:
    folder.mkdir(exist_ok=True)
    return retrain(settings, shapes, shapes, CLASSES, seed=0, folder=folder, out=folder / "deeplab", log=log)


def weights(folder: Path) -> bytes:
    return (folder / "deeplab" / "deeplab.safetensors").read_bytes()


def test_a_killed_run_ends_with_the_same_bytes(
    shapes: tuple[Example, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(SETTINGS, shapes, tmp_path / "straight")
    original = retraining.loss_of_batch
    calls = iter(range(100))

    def killed(*arguments: object) -> torch.Tensor:
        if next(calls) == 3:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(retraining, "loss_of_batch", killed)
    with pytest.raises(KeyboardInterrupt):
        run(SETTINGS, shapes, tmp_path / "killed")
    assert not (tmp_path / "killed" / "deeplab").exists()
    monkeypatch.setattr(retraining, "loss_of_batch", original)
    run(SETTINGS, shapes, tmp_path / "killed")
    assert weights(tmp_path / "killed") == weights(tmp_path / "straight")


def test_a_finished_run_that_was_not_published_is_saved_again(shapes: tuple[Example, ...], tmp_path: Path) -> None:
    first = run(SETTINGS, shapes, tmp_path / "run")
    before = weights(tmp_path / "run")
    assert run(SETTINGS, shapes, tmp_path / "run") == first
    assert weights(tmp_path / "run") == before


def test_few_shapes_are_learnt_by_heart(shapes: tuple[Example, ...], tmp_path: Path) -> None:
    settings = replace(SETTINGS, iterations=40, batch_size=4, lr=4e-3, crop_size=48, validate_every=40, checkpoint_every=40)
    figures = run(settings, shapes, tmp_path / "run")
    assert figures["val_miou"] > 80, figures
    model = load_deeplab(tmp_path / "run" / "deeplab")
    assert model.card["classes"] == ["background", "disc", "box"]
    photo = np.asarray(Image.open(shapes[0].photo))
    assert predict_probabilities(model, photo, scales=(1.0,), flip=True).argmax(axis=0)[24, 18] == 1


def test_the_papers_network_learns_and_resumes_to_the_same_bytes(
    shapes: tuple[Example, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_slim(monkeypatch)
    settings = replace(
        SETTINGS,
        network="deeplabv1_resnet38",
        encoder="resnet38",
        output_stride=8,
        iterations=60,
        batch_size=4,
        lr=0.2,
        encoder_lr_factor=1.0,
        crop_size=48,
        validate_every=60,
        checkpoint_every=30,
    )
    log = StepLog(tmp_path / "plots")
    run(settings, shapes, tmp_path / "straight", log)
    log.close()
    rows = [row.split("\t") for row in (tmp_path / "plots/metrics/cross_entropy.tsv").read_text().splitlines()[1:]]
    losses = [float(loss) for _, loss in rows]
    assert min(losses[-2:]) < 0.7 * losses[0], losses
    model = load_deeplab(tmp_path / "straight" / "deeplab")
    assert model.card["network"] == "deeplabv1_resnet38" and model.views.fuse_logits

    original, calls = retraining.loss_of_batch, iter(range(100))

    def killed(*arguments: object) -> torch.Tensor:
        if next(calls) == 40:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(retraining, "loss_of_batch", killed)
    with pytest.raises(KeyboardInterrupt):
        run(settings, shapes, tmp_path / "killed")
    monkeypatch.setattr(retraining, "loss_of_batch", original)
    run(settings, shapes, tmp_path / "killed")
    assert weights(tmp_path / "killed") == weights(tmp_path / "straight")


def test_validation_is_logged_by_step_and_absent_without_masks(shapes: tuple[Example, ...], tmp_path: Path) -> None:
    log = StepLog(tmp_path / "plots")
    run(SETTINGS, shapes, tmp_path / "run", log)
    log.close()
    rows = (tmp_path / "plots" / "metrics" / "val_miou.tsv").read_text().splitlines()
    assert [row.split("\t")[0] for row in rows] == ["step", "2", "4"]
    (tmp_path / "bare").mkdir()
    settings = replace(SETTINGS, iterations=1)
    assert retrain(settings, shapes, (), CLASSES, seed=0, folder=tmp_path / "bare", out=tmp_path / "bare") == {}


def test_cross_entropy_leaves_ignored_pixels_out() -> None:
    logits = torch.tensor([[[[2.0, 0.0]], [[0.0, 0.0]]]], requires_grad=True)  # (1, 2, 1, 2)
    masks = torch.tensor([[[0, IGNORE]]])
    assert PLAIN(logits, masks).item() == pytest.approx(math.log(1 + math.exp(-2)))


def test_only_ignored_pixels_give_zero_and_no_nan() -> None:
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    loss = PLAIN(logits, torch.full((2, 4, 4), IGNORE))
    loss.backward()
    assert loss.item() == 0 and logits.grad is not None and torch.all(logits.grad == 0)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_small_batches_train(batch_size: int) -> None:
    model = build_deeplabv3plus(encoder="mini", encoder_weights="none", num_classes=3, output_stride=16)
    set_training(model, batch_size, False)
    batch = Batch(np.zeros((batch_size, 32, 32, 3), np.uint8), np.zeros((batch_size, 32, 32), np.uint8))
    loss = loss_of_batch(model, batch, 2, rng(0))
    loss.backward()
    assert math.isfinite(loss.item())


def test_a_training_in_bfloat16_goes_nearly_the_same_way(shapes: tuple[Example, ...], tmp_path: Path) -> None:
    trained = {}
    for precision in ("float32", "bfloat16"):
        run(replace(SETTINGS, precision=precision), shapes, tmp_path / precision)
        trained[precision] = load_file(tmp_path / precision / "deeplab" / "deeplab.safetensors")[KEY]
        card = json.loads((tmp_path / precision / "deeplab" / "deeplab.json").read_text())
        assert card["training"]["precision"] == precision
    moved = np.abs(trained["bfloat16"] - trained["float32"])
    assert 0 < moved.max() < 0.2 * np.abs(trained["float32"]).max()


def test_the_loss_of_a_network_in_bfloat16_is_computed_in_float32() -> None:
    model = build_deeplabv3plus(encoder="mini", encoder_weights="mini", num_classes=3, output_stride=16)
    draw = rng(0)
    photos = draw.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    batch = Batch(photos, draw.integers(0, 3, (2, 32, 32), dtype=np.uint8))
    exact, rough = (loss_of_batch(model.eval(), batch, 1, rng(1), PLAIN, name) for name in ("float32", "bfloat16"))
    assert rough.dtype == torch.float32 and rough != exact
    torch.testing.assert_close(rough, exact, rtol=0.02, atol=0)


def test_a_pretrained_encoder_keeps_its_statistics_in_small_batches_only() -> None:
    model = build_deeplabv3plus(encoder="mini", encoder_weights="none", num_classes=3, output_stride=16)

    def training(part: nn.Module) -> set[bool]:
        return {module.training for module in part.modules() if isinstance(module, nn.BatchNorm2d)}

    set_training(model, 4, True)
    assert training(model.encoder) == {False} and training(model.decoder) == {True}
    set_training(model, 16, True)
    assert training(model.encoder) == {True}
    set_training(model, 1, False)
    assert training(model.encoder) == {True} and training(model.decoder) == {True, False}


def test_each_parameter_is_in_one_group_and_vectors_do_not_decay() -> None:
    model = build_deeplabv3plus(encoder="mini", encoder_weights="none", num_classes=3, output_stride=16)
    groups = model.recipe(SETTINGS, photos=4).optimizer.param_groups
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in model.parameters())
    assert [group["weight_decay"] for group in groups] == [1e-4, 0.0, 1e-4, 0.0]


def test_layers_learn_at_rates_that_shrink_towards_the_input() -> None:
    model = build_deeplabv3plus(encoder="mini", encoder_weights="none", num_classes=3, output_stride=16)
    settings = replace(SETTINGS, layer_decay=0.5, encoder_lr_factor=0.8, iterations=100)
    recipe = model.recipe(settings, photos=4)
    rate = recipe.rates_of_step(50)[0]
    assert recipe.rates_of_step(50)[::2] == pytest.approx([rate, 0.1 * rate, 0.2 * rate, 0.4 * rate, 0.8 * rate])
    groups = [{id(parameter) for parameter in group["params"]} for group in recipe.optimizer.param_groups]
    network = model.encoder.model
    for part, pair in zip((network.stem, *network.stages), range(2, 10, 2), strict=True):
        assert groups[pair] | groups[pair + 1] == {id(parameter) for parameter in part.parameters()}
    assert sum(map(len, groups)) == len(list(model.parameters()))


def test_averaged_weights_are_saved_and_a_killed_run_ends_with_the_same_ones(
    shapes: tuple[Example, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(SETTINGS, ema=0.9, iterations=5)
    run(replace(settings, ema=0.0), shapes, tmp_path / "plain")
    seen: list[torch.Tensor] = []
    original_loss, original_update = retraining.loss_of_batch, retraining.MovingAverage.update

    def watched(average: retraining.MovingAverage[DeepLab], network: DeepLab) -> None:
        original_update(average, network)
        seen.append(network.state_dict()[KEY].clone())

    monkeypatch.setattr(retraining.MovingAverage, "update", watched)
    run(settings, shapes, tmp_path / "straight")
    assert len(seen) == 5
    saved = load_deeplab(tmp_path / "straight" / "deeplab").state_dict()[KEY]
    last = load_deeplab(tmp_path / "plain" / "deeplab").state_dict()[KEY]
    assert torch.equal(seen[-1], last) and not torch.equal(saved, last)

    calls = iter(range(100))

    def killed(*arguments: object) -> torch.Tensor:
        if next(calls) == 3:
            raise KeyboardInterrupt
        return original_loss(*arguments)

    monkeypatch.setattr(retraining, "loss_of_batch", killed)
    with pytest.raises(KeyboardInterrupt):
        run(settings, shapes, tmp_path / "killed")
    monkeypatch.setattr(retraining, "loss_of_batch", original_loss)
    run(settings, shapes, tmp_path / "killed")
    assert weights(tmp_path / "killed") == weights(tmp_path / "straight")


def test_a_crop_that_the_encoder_does_not_take_is_refused(shapes: tuple[Example, ...], tmp_path: Path) -> None:
    settings = replace(SETTINGS, encoder="eva02_tiny_patch14_224", crop_size=64)
    with pytest.raises(WeakClipError, match=r"deeplab\.crop_size 64 is not a multiple of 14") as caught:
        run(settings, shapes, tmp_path / "run")
    assert caught.value.hint == "set deeplab.crop_size to 112"


def test_validation_looks_at_200_images_spread_over_all() -> None:
    many = [Example(image_id=f"{i:03}", photo=Path("a"), mask=Path("b"), height=1 + i % 2, width=1) for i in range(1000)]
    subset = validation_subset(many)
    assert len(subset) == 200 and subset[0].image_id == "000" and len({e.image_id for e in subset}) == 200
    assert [e.height for e in subset] == sorted(e.height for e in subset)
    assert validation_subset(()) == ()


def test_a_loss_that_is_not_finite_names_step_and_images(
    shapes: tuple[Example, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retraining, "loss_of_batch", lambda *_: torch.tensor(math.nan, requires_grad=True))
    with pytest.raises(WeakClipError, match=r"not finite at step 0 .*images \d, \d"):
        run(SETTINGS, shapes, tmp_path / "run")
