import json
import shutil
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from stages import _cli, generate_masks, train_weakclip
from tests.conftest import change_params
from weakclip import adaptation, objective
from weakclip.clip.model import load_clip
from weakclip.datasets.index import Record, read_dataset
from weakclip.errors import WeakClipError
from weakclip.network import weakclip
from weakclip.network.published import start_from_clip
from weakclip.network.trained import load_weakclip
from weakclip.params import load
from weakclip.released.names import our_name
from weakclip.runlog import StepLog
from weakclip.sampling import held_out
from weakclip.sealed import sealed, unsealed
from weakclip.supervision import OnlineViews

METRICS = Path("data/results/train_weakclip/metrics.json")
OUTS = (Path("data/weakclip"), Path("data/results/train_weakclip"))
SMALL = {"weakclip.loss_size": 32, "weakclip.decoder_width": 16, "weakclip.channels": 16}


@pytest.fixture(autouse=True)
def small(workspace: Path) -> None:
    change_params(Path("params.yaml"), SMALL)


def outs() -> dict[str, bytes]:
    return {path.as_posix(): path.read_bytes() for folder in OUTS for path in sorted(folder.rglob("*")) if path.is_file()}


def split() -> tuple[list[Record], list[Record]]:
    """The training images that are trained on, and those that are held out."""
    records = read_dataset(Path("data/dataset")).training
    marked = held_out(len(records), 0.1, 0)
    return [r for r, m in zip(records, marked, strict=True) if not m], [r for r, m in zip(records, marked, strict=True) if m]


def test_weights_card_and_figures_are_written(capsys: pytest.CaptureFixture[str]) -> None:
    train_weakclip.main()

    figures = json.loads(METRICS.read_text())["held_out"]
    assert list(figures) == ["agreement", "miou", "n"] and figures["n"] == 1
    # The seeds are the true masks.
    assert figures["agreement"] == figures["miou"] and 0 <= figures["miou"] <= 100
    card = json.loads(Path("data/weakclip/weakclip.json").read_text())
    assert (card["variant"], card["image_size"], card["blocks"]) == ("repaired", 128, [1, 3, 4])
    names = {"seeding_loss", "boundary_loss", "score_map_loss", "learning_rate", "held_out_agreement", "held_out_miou"}
    assert {path.stem for path in OUTS[1].rglob("*.tsv")} == names
    assert f"{figures['agreement']} agreement with the seeds of held-out photos" in capsys.readouterr().out
    assert not list(Path(".resume/train_weakclip").iterdir())


def test_values_computed_again_for_the_gradient_give_the_same_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    again: list[object] = []
    original = weakclip.recomputed

    def watched(part: Callable[..., object], *inputs: object) -> object:
        again.append(part)
        return original(part, *inputs)

    monkeypatch.setattr(weakclip, "recomputed", watched)
    train_weakclip.main()
    kept = (OUTS[0] / "weakclip.safetensors").read_bytes()
    assert not again
    change_params(Path("params.yaml"), {"weakclip.recompute": True})
    train_weakclip.main()
    assert again and (OUTS[0] / "weakclip.safetensors").read_bytes() == kept


ROUNDING: list[tuple[dict[str, object], float]] = [
    ({}, 1e-3),
    ({"weakclip.recompute": True}, 1e-3),
    ({"weakclip.context_length": 0}, 1e-3),
    ({"clip.precision": "bfloat16"}, 0.3),
]
"""What is changed, and how far two ways to add up may take the weights apart, as a share of what one more step moves them."""


@pytest.mark.parametrize(("change", "share"), ROUNDING, ids=str)
def test_micro_batches_move_weights_alike(monkeypatch: pytest.MonkeyPatch, change: dict[str, object], share: float) -> None:
    sizes: list[int] = []
    decode = weakclip.WeakClip.decode

    def watched(self: weakclip.WeakClip, tokens: Sequence[Tensor], *others: object) -> object:
        if self.training:
            sizes.append(len(tokens[0]))
        return decode(self, tokens, *others)

    def trained(micro_batches: int, iterations: int = 4) -> Tensor:
        sizes.clear()
        settings = {"weakclip.micro_batches": micro_batches, "weakclip.iterations": iterations, "weakclip.batch_size": 6}
        change_params(Path("params.yaml"), change | settings)
        train_weakclip.main()
        return torch.cat([value.flatten().float() for value in load_file(OUTS[0] / "weakclip.safetensors").values()])

    monkeypatch.setattr(weakclip.WeakClip, "decode", watched)
    fewer = trained(1, iterations=3)
    whole = trained(1)
    assert sizes == [6] * 4
    parts = trained(4)  # as many of four as divide a batch of six
    assert sizes == [2] * 12
    assert (parts - whole).norm() < share * (whole - fewer).norm()


@pytest.mark.parametrize(
    "change",
    [{"boundary_weight": 0.0}, {"boundary_algorithm": "par"}, {"boundary_crf.backend": "torch"}, {"variant": "published"}],
    ids=str,
)
def test_where_a_batch_cannot_or_need_not_be_split_there_is_one_micro_batch(change: dict[str, object]) -> None:
    change_params(Path("params.yaml"), {"weakclip.batch_size": 4, "weakclip.micro_batches": 2})
    assert train_weakclip.schedule(load(Path("params.yaml"))).micro_batches == 2
    change_params(Path("params.yaml"), {f"weakclip.{name}": value for name, value in change.items()})
    assert train_weakclip.schedule(load(Path("params.yaml"))).micro_batches == 1


def test_curves_can_be_watched_where_dvc_looks_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    curves, seen = OUTS[1] / "plots" / "metrics", []
    log = StepLog.log

    def look(self: StepLog, step: int, values: Mapping[str, float]) -> None:
        log(self, step, values)
        seen.extend((step, int((curves / f"{name}.tsv").read_text().splitlines()[-1].split("\t")[0])) for name in values)

    monkeypatch.setattr(StepLog, "log", look)
    train_weakclip.main()
    assert {step for step, _ in seen} == {2, 4} and all(shown == step for step, shown in seen)


def test_a_killed_run_leaves_nothing_and_ends_with_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    train_weakclip.main()
    undisturbed = outs()
    for path in sorted(Path("data/results/train_weakclip").rglob("*.tsv")) + list(OUTS[0].iterdir()) + [METRICS]:
        path.unlink()

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(train_weakclip, "save_weakclip", killed)
        train_weakclip.main()
    assert not list(OUTS[0].iterdir()) and not METRICS.exists()
    train_weakclip.main()
    assert outs() == undisturbed


def test_held_out_images_are_not_trained_on() -> None:
    trained, kept = split()
    assert (len(trained), len(kept)) == (11, 1)
    # In six steps of two images every trained image is seen.
    change_params(Path("params.yaml"), {"weakclip.iterations": 6, "weakclip.boundary_weight": 0.0})
    Path(kept[0].photo).write_bytes(b"not an image")
    train_weakclip.main()
    Path(trained[5].photo).write_bytes(b"not an image")
    with pytest.raises(WeakClipError, match=f"{trained[5].image_id}.*another photo than the dataset index lists"):
        train_weakclip.main()


def test_nothing_held_out_gives_no_figures() -> None:
    change_params(Path("params.yaml"), {"weakclip.held_out_share": 0.0, "weakclip.boundary_weight": 0.0})
    train_weakclip.main()
    assert unsealed(METRICS.read_bytes()) == {"held_out": {"n": 0}}


def test_views_are_encoded_while_training_where_the_features_hold_none(monkeypatch: pytest.MonkeyPatch) -> None:
    index = Path("data/features/index.json")
    content = json.loads(index.read_text())
    assert content["attributes"]["crop_views"] == 1
    monkeypatch.setattr(train_weakclip.FeatureStore, "attributes", content["attributes"] | {"crop_views": 0})
    used: list[OnlineViews] = []
    keys: list[str] = []
    choose, fingerprint = OnlineViews.choose, train_weakclip.fingerprint

    def watched(self: OnlineViews, record: Record, draw: np.random.Generator) -> object:
        used.append(self)
        return choose(self, record, draw)

    def remembered(**values: object) -> str:
        keys.append(fingerprint(**values))
        return keys[-1]

    monkeypatch.setattr(OnlineViews, "choose", watched)
    monkeypatch.setattr(train_weakclip, "fingerprint", remembered)
    for changes in ({"weakclip.iterations": 2, "weakclip.boundary_weight": 0.0}, {"features.scale": [0.9, 1.1]}):
        change_params(Path("params.yaml"), changes)
        train_weakclip.main()
    assert [view.scale for view in used] == [(0.6, 1.4)] * 4 + [(0.9, 1.1)] * 4
    assert keys[0] != keys[1]


def test_the_published_variant_refuses_features_of_a_frozen_encoder_in_two_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    change_params(Path("params.yaml"), {"weakclip.variant": "published"})
    monkeypatch.setattr(sys, "argv", ["train_weakclip"])
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as caught:
            _cli.run(train_weakclip.main)
    finally:
        signal.signal(signal.SIGTERM, before)
    problem, hint = capsys.readouterr().err.splitlines()
    assert caught.value.code == 1
    assert problem.startswith("error: ") and "published" in problem
    assert hint.startswith("hint: ") and "features.views=0" in hint


PUBLISHED = {"weakclip.variant": "published", "weakclip.token_crop": 1.0, "features.views": 0}


def without_crops(monkeypatch: pytest.MonkeyPatch) -> None:
    """The features hold whole photos only, as `features.views: 0` leaves them."""
    attributes = json.loads(Path("data/features/index.json").read_text())["attributes"]
    monkeypatch.setattr(train_weakclip.FeatureStore, "attributes", attributes | {"crop_views": 0})


def test_the_published_variant_trains_its_encoder_and_makes_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    without_crops(monkeypatch)
    change_params(Path("params.yaml"), PUBLISHED | {"weakclip.iterations": 3, "weakclip.warmup": 1})
    train_weakclip.main()

    trained = load_weakclip(Path("data/weakclip"))
    moved = trained.model.state_dict()
    fresh = start_from_clip(load_clip("mini", "mini"), trained.image_size, len(trained.model.text_encoder.contexts)).network
    for name, before in fresh.state_dict().items():
        if name == "logit_scale" or "num_batches" in name or "running" in name:
            continue
        ours = our_name(f"backbone.{name.removeprefix('visual.')}" if name.startswith("visual.") else f"text_encoder.{name}", 1)
        # A rate below 1e-6, three steps; and everything that is used moves, up to rows of words that no name has.
        assert 0 < (moved[ours] - before).abs().max() < 4e-6, name
    names = {"seeding_loss", "boundary_loss", "score_map_loss", "learning_rate", "held_out_agreement", "held_out_miou"}
    assert {path.stem for path in OUTS[1].rglob("*.tsv")} == names
    assert json.loads(Path("data/weakclip/weakclip.json").read_text())["variant"] == "published"

    change_params(Path("params.yaml"), {"masks.scales": [1.0], "masks.flip": False, "masks.tag_filter": False})
    generate_masks.main()
    assert len(list(Path("data/masks/pseudo").iterdir())) == 12


def test_a_killed_published_run_ends_with_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    without_crops(monkeypatch)
    change_params(Path("params.yaml"), PUBLISHED | {"weakclip.boundary_weight": 0.0, "weakclip.checkpoint_every": 1})
    train_weakclip.main()
    undisturbed = outs()
    for folder in OUTS:
        shutil.rmtree(folder)
    shutil.rmtree(".resume")
    add_gradients, calls = adaptation.add_gradients, iter(range(99))

    def killed(*arguments: object) -> dict[str, Tensor]:
        if next(calls) == 2:
            raise KeyboardInterrupt
        return add_gradients(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(adaptation, "add_gradients", killed)
        train_weakclip.main()
    train_weakclip.main()
    assert outs() == undisturbed


LOSSES: list[dict[str, object]] = [
    {"weakclip.loss_clamp_patch": 8},
    {"weakclip.balanced_score_map": True},
    {"weakclip.affinity_weight": 0.1},
    {"weakclip.boundary_algorithm": "par"},
]


@pytest.mark.parametrize("change", LOSSES)
def test_the_published_variant_has_the_released_losses(monkeypatch: pytest.MonkeyPatch, change: dict[str, object]) -> None:
    without_crops(monkeypatch)
    change_params(Path("params.yaml"), PUBLISHED | change)
    with pytest.raises(WeakClipError, match="has the released losses"):
        train_weakclip.main()


def test_losses_against_noise_affinity_and_par_train_and_are_recorded() -> None:
    change_params(Path("params.yaml"), {name: value for change in LOSSES for name, value in change.items()})
    train_weakclip.main()
    assert unsealed(METRICS.read_bytes())["boundary_algorithm"] == "par"
    rows = Path("data/results/train_weakclip/plots/metrics/affinity_loss.tsv").read_text().splitlines()
    assert len(rows) > 1 and all(0 < float(row.split("\t")[1]) < 0.1 for row in rows[1:])


def test_the_boundary_crf_in_torch_trains_as_that_of_pydensecrf(monkeypatch: pytest.MonkeyPatch) -> None:
    losses, asked = {}, list[str]()
    in_torch = objective.BatchCrf

    def watched(*arguments: Any) -> objective.BatchCrf:
        asked.append(backend)
        return in_torch(*arguments)

    monkeypatch.setattr(objective, "BatchCrf", watched)
    for backend in ("pydensecrf", "torch"):
        change_params(Path("params.yaml"), {"weakclip.boundary_crf.backend": backend})
        train_weakclip.main()
        rows = Path("data/results/train_weakclip/plots/metrics/boundary_loss.tsv").read_text().splitlines()[1:]
        losses[backend] = [float(row.split("\t")[1]) for row in rows]
    assert losses["torch"] == pytest.approx(losses["pydensecrf"], rel=1e-3)
    assert set(asked) == {"torch"}


@pytest.mark.parametrize("change", [{"weakclip.token_crop": 0.5}, {"weakclip.co_attention": False}])
def test_the_published_variant_refuses_what_the_released_code_has_not(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, object]
) -> None:
    without_crops(monkeypatch)
    change_params(Path("params.yaml"), PUBLISHED | change)
    with pytest.raises(WeakClipError, match="sees views whole"):
        train_weakclip.main()


def test_features_of_another_encoder_are_refused() -> None:
    index = Path("data/features/index.json")
    content = unsealed(index.read_bytes())
    content["attributes"]["weights_hash"] = "0" * 64
    index.write_text(json.dumps(sealed(content)))
    with pytest.raises(WeakClipError, match="data/features was made with other weights of mini"):
        train_weakclip.main()
