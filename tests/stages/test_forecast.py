"""The forecast of the stages: its bytes are those that stages then write, its times follow from paces and parameters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

from stages import forecast, generate_masks, refine_masks, train_cam, train_weakclip
from tests.conftest import ROOT, change_params
from weakclip import forecast as of
from weakclip.clip.image_encoder import ImageEncoder
from weakclip.clip.model import untrained_clip
from weakclip.crf import CrfKernel
from weakclip.datasets.index import read_dataset
from weakclip.params import load
from weakclip.progress import bytes_in
from weakclip.scores import ScoreStore
from weakclip.sharpening import Kernel

PACE = of.Pace(token=1e-3, crf_label=1e-5, evaluation_label=1e-4, deeplab_pixel=1e-6, training_pixel=5e-7)
ALONE = 2e-3  # seconds of CLIP alone for a token
INDEX = Path("data/dataset")
IMPORTED: dict[str, object] = {"cam.source": "import", "cam.import_folder": "data/raw/seeds"}


@pytest.fixture(autouse=True)
def in_workspace(workspace: Path) -> None:
    """In a drawn mini world with its features."""


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, of.Forecast]]:
    """The forecast after changes of parameters, nothing being timed."""
    monkeypatch.setattr(forecast, "paces", lambda *_: PACE)
    monkeypatch.setattr(forecast, "seconds_per_token", lambda *_: ALONE)

    def of_stages(changes: dict[str, object] | None = None) -> dict[str, of.Forecast]:
        change_params(Path("params.yaml"), changes or {})
        return {row.stage: row for row in forecast.forecasts(load(), read_dataset(INDEX))}

    return of_stages


def test_each_stage_after_the_first_has_a_row(rows: Callable[..., dict[str, of.Forecast]]) -> None:
    stages = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    assert list(rows()) == [stage for stage in stages if stage != "prepare_dataset"]


def test_the_bytes_are_those_that_the_stages_write(rows: Callable[..., dict[str, of.Forecast]]) -> None:
    expected = rows({"weakclip.iterations": 2, "weakclip.boundary_weight": 0.0, "masks.flip": False})
    for stage in (train_cam, train_weakclip, generate_masks, refine_masks):
        stage.main()
    masks = bytes_in(Path("data/cam/labels")) + bytes_in(Path("data/cam/seeds"))
    maps = stored(Path("data/cam/cams"))
    assert expected["train_cam"].n_bytes == pytest.approx(maps + masks, rel=0.2)
    assert expected["train_cam"].n_bytes - maps == pytest.approx(2 * of.mask_bytes(read_dataset(INDEX).training))
    scores = stored(Path("data/masks/scores"))
    assert expected["generate_masks"].n_bytes == pytest.approx(scores + bytes_in(Path("data/masks/pseudo")), rel=0.1)
    refined = bytes_in(Path("data/masks/refined")) + bytes_in(Path("data/masks/gated"))
    assert expected["refine_masks"].n_bytes == pytest.approx(refined, rel=0.3)


def test_scores_of_competing_classes_are_more_than_those_of_the_tags(rows: Callable[..., dict[str, of.Forecast]]) -> None:
    limited, free = rows()["generate_masks"].n_bytes, rows({"masks.tag_filter": False})["generate_masks"].n_bytes
    others = sum((10 - len(record.tags)) * record.height * record.width for record in read_dataset(INDEX).training)
    assert free - limited == pytest.approx(2 * of.STRAYS * others)


def test_imported_seeds_have_no_maps(rows: Callable[..., dict[str, of.Forecast]]) -> None:
    train_cam.main()
    maps = (
        rows()["train_cam"].n_bytes - rows({"cam.source": "import", "cam.import_folder": "data/raw/seeds"})["train_cam"].n_bytes
    )
    assert maps == pytest.approx(stored(Path("data/cam/cams")))


@pytest.mark.parametrize(
    ("changes", "passes"),
    [
        ({"cam.source": "gradcam"}, lambda tags: (1 + tags) / 5),  # from block 3 of five on, and back for each tag
        ({"cam.source": "calibrated", "cam.calibrated_blocks": 2}, lambda tags: (3 + 2) / 5),  # from block 1 on
        ({"cam.affinity_blocks": 1}, lambda tags: (1 + 1) / 5),
    ],
)
def test_sources_of_maps_take_the_passes_through_clip_that_they_make(
    rows: Callable[..., dict[str, of.Forecast]], changes: dict[str, object], passes: Callable[[int], float]
) -> None:
    base = rows(IMPORTED)["train_cam"].seconds
    assert base > 0  # masks are written
    # Two views of 16 x 16 patches each
    expected = sum(2 * 257 * passes(len(record.tags)) for record in read_dataset(INDEX).training)
    assert rows(IMPORTED | changes)["train_cam"].seconds - base == pytest.approx(ALONE * expected)


def test_a_classifier_sees_whole_views_and_no_crops(rows: Callable[..., dict[str, of.Forecast]]) -> None:
    assert rows({"features.views": 0})["train_cam"] == rows({"features.views": 9})["train_cam"]
    twice = rows({"cam.iterations": 8})["train_cam"].seconds - rows({"cam.iterations": 4})["train_cam"].seconds
    assert twice == pytest.approx(4 * 4 * 257 * 128 * of.CLASSIFIER_SECONDS)


def test_trainings_differ_by_variant_recomputation_and_where_features_come_from(
    rows: Callable[..., dict[str, of.Forecast]],
) -> None:
    images = 4 * 2 * 257 * PACE.token  # steps, batch, tokens
    for changes in ({"features.views": 1}, {"features.views": 0}, {"weakclip.recompute": True}):
        change_params(Path("params.yaml"), changes)
        p = load()
        step = of.step_passes(p.weakclip.variant, recompute=p.weakclip.recompute, online=p.features.views == 0)
        assert rows()["train_weakclip"].seconds == pytest.approx(step * images)
    published = rows({"weakclip.recompute": False, "weakclip.variant": "published"})["train_weakclip"].seconds
    assert published == pytest.approx(of.PUBLISHED_STEP * images)


def test_the_crf_takes_longer_where_no_tags_limit_its_labels(rows: Callable[..., dict[str, of.Forecast]]) -> None:
    limited = rows({"masks.tag_filter": False, "crf.tag_limited": True})["refine_masks"].seconds
    index = read_dataset(INDEX)
    counts = np.array([1 + len(record.tags) for record in index.training])
    assert limited == pytest.approx(PACE.crf_label * 128 * 128 * counts.sum())
    assert rows({"masks.tag_filter": True, "crf.tag_limited": False})["refine_masks"].seconds == pytest.approx(limited)
    free = rows({"masks.tag_filter": False, "crf.tag_limited": False})["refine_masks"].seconds
    assert free - limited == pytest.approx(PACE.crf_label * 128 * 128 * of.STRAYS * (11 - counts).sum())


def test_evaluation_has_its_own_crf(monkeypatch: pytest.MonkeyPatch) -> None:
    timed: list[Kernel] = []
    monkeypatch.setattr(forecast, "sharpened", lambda photo, probabilities, kernel: timed.append(kernel))
    monkeypatch.setattr(forecast, "seconds_per_token", lambda *_: 1.0)

    def kernels(iterations: int) -> tuple[of.Pace, list[Kernel]]:
        change_params(Path("params.yaml"), {"evaluate.crf.iterations": iterations, "evaluate.crf.bilateral_sxy": 7})
        timed.clear()
        clip = untrained_clip("mini")
        return forecast.paces(load(), ImageEncoder(clip, [4]), 11), [*timed]

    without, found = kernels(0)
    assert without.evaluation_label == 0 and len({*found}) == 1
    pace, found = kernels(3)
    assert pace.evaluation_label > 0
    (kernel,) = {kernel for kernel in found if isinstance(kernel, CrfKernel) and kernel.bilateral_sxy == 7}
    assert kernel.iterations == 3


def test_the_crf_of_the_evaluation_adds_to_its_time(rows: Callable[..., dict[str, of.Forecast]]) -> None:
    val = of.pixels(read_dataset(INDEX).val)
    views = rows({"evaluate.scales": [1.0], "evaluate.flip": False})["evaluate"].seconds
    assert views == pytest.approx(val * (PACE.deeplab_pixel + of.LABELS * PACE.evaluation_label))


def test_the_deeplab_is_timed_in_the_precision_of_its_training_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forecast, "seconds_per_token", lambda *_: 1.0)
    monkeypatch.setattr(forecast, "seconds_per_label", lambda *_: 1.0)
    monkeypatch.setattr(forecast, "seconds_per_pixel", lambda deeplab, side, precision="float32": len(precision))
    encoder = ImageEncoder(untrained_clip("mini"), [4])
    for precision in ("float32", "bfloat16"):
        change_params(Path("params.yaml"), {"deeplab.precision": precision})
        pace = forecast.paces(load(), encoder, 11)
        assert (pace.deeplab_pixel, pace.training_pixel) == (len("float32"), len(precision))


def test_the_retraining_has_a_pace_of_its_own(rows: Callable[..., dict[str, of.Forecast]]) -> None:
    assert rows()["retrain_deeplab"].seconds == pytest.approx(4 * 2 * 64**2 * of.TRAINING * PACE.training_pixel)


def test_the_encoder_is_timed_in_the_precision_of_the_features(monkeypatch: pytest.MonkeyPatch) -> None:
    change_params(Path("params.yaml"), {"clip.precision": "bfloat16", "cam.source": "gradcam"})
    seen: list[str] = []

    def seconds(encoder: ImageEncoder, side: int, patch: int) -> float:
        seen.append(encoder.precision)
        return 1e-3

    monkeypatch.setattr(forecast, "seconds_per_token", seconds)
    forecast.forecasts(load(), read_dataset(INDEX))
    assert seen == ["bfloat16", "float32"]  # features and masks, then CLIP's blocks in train_cam


def stored(folder: Path) -> int:
    """Bytes of the values of a store."""
    store = ScoreStore(folder)
    return sum(store.read(image_id)[1].nbytes for image_id in store.image_ids)
