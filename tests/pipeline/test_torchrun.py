"""Every stage as two ranks, as torchrun starts them: the artefacts of one process."""

import contextlib
import importlib
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from tests.conftest import ROOT, TINY, change_params
from tests.pipeline.test_dvc_yaml import STAGES, paths
from tests.torchrun import torchrun
from tests.watched_ranks import noted, share
from weakclip.features import cache
from weakclip.masks import read_mask
from weakclip.scores import ScoreStore

IMAGES = 34  # in three shards of scores or maps, of 16, 16 and 2

SHARES = {
    "cache_features": (("decoded", "images", 22, 14),),  # of two photos both encode views
    "train_cam": (("written", "maps", 2, 1), ("written", "labels", 17, 17), ("written", "seeds", 17, 17)),
    "train_weakclip": (("decoded", "images", 4, 4),),  # one at each step
    "generate_masks": (("decoded", "images", 18, 16), ("written", "scores", 2, 1), ("written", "pseudo", 18, 16)),
    "refine_masks": (("decoded", "images", 17, 17),),
    "evaluate": (("decoded", "images", 3, 3),),
}
"""By stage, what ranks share: how many images or shards the main one does, and how many the other."""

WEIGHTS = {
    "train_cam": "data/cam/classifier.safetensors",
    "train_weakclip": "data/weakclip/weakclip.safetensors",
    "retrain_deeplab": "data/deeplab/deeplab.safetensors",
}
DRIFT = {"train_cam": 2e-8, "train_weakclip": 1e-5, "retrain_deeplab": 8e-5}
"""The most that weights may differ, root mean square. At most 1.5e-9, 1.5e-6 and 2.5e-5 were measured (docs/cluster.md).
The trainings move them by 1.7e-3, 3.8e-3 and 4.0e-4."""


def main(*stages: str) -> None:
    """Run stages here, as one process of one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for stage in stages:
        importlib.import_module(f"stages.{stage}").main()
    torch.set_num_threads(threads)


@contextlib.contextmanager
def one_process(folder: Path) -> Iterator[None]:
    """In the folder, on the CPU, without processes of its own."""
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setenv("WEAKCLIP_WORKERS", "1")
        patch.setenv("WEAKCLIP_DEVICE", "cpu")
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which one process has run all stages; tests work on copies."""
    folder = tmp_path_factory.mktemp("finished")
    shutil.copyfile(ROOT / "weakclip" / "presets" / "mini.yaml", folder / "params.yaml")
    change_params(folder / "params.yaml", {**TINY, "dataset.mini_train": IMAGES})
    with one_process(folder):
        main(*STAGES)
    return folder


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "workspace"))


def both_ways(finished: Path, copy: Path, stage: str, changes: Mapping[str, object]) -> Path:
    """Run a stage as two ranks in the copy, where none of its outputs is left; returns where one process has run it."""
    alone = finished
    change_params(copy / "params.yaml", changes)
    if changes:
        alone = Path(shutil.copytree(copy, copy.with_name("alone")))
        with one_process(alone):
            main(stage)
    for output in paths(STAGES[stage]["outs"]):
        shutil.rmtree(copy / output) if (copy / output).is_dir() else (copy / output).unlink()
    result = torchrun("tests.watched_ranks", copy, "-m", f"stages.{stage}")
    assert (result.returncode, result.stdout) == (0, ""), result.stderr
    printed = noted(copy, 0)["printed"]
    assert "100 %" in printed and printed.count("wrote data/") == 1
    assert noted(copy, 1)["printed"] == ""
    for done, place, *counts in SHARES.get(stage, ()):
        own, other = share(copy, 0, done, place), share(copy, 1, done, place)
        assert [len(own), len(other)] == counts
        assert len(own & other) == (2 if stage == "cache_features" else 0)
    return alone


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("stage", "changes"),
    [
        pytest.param("cache_features", {}, id="cache_features"),
        pytest.param("train_cam", {}, id="train_cam"),  # its maps and seeds: the classifier is in the resume slot
        pytest.param("generate_masks", {}, id="generate_masks"),
        pytest.param("refine_masks", {}, id="refine_masks"),
        pytest.param("refine_masks", {"crf.backend": "torch"}, id="refine_masks_torch"),
        pytest.param("evaluate", {}, id="evaluate"),
    ],
)
def test_a_stage_that_works_image_by_image_gives_the_same_bytes(
    finished: Path, copy: Path, stage: str, changes: Mapping[str, object]
) -> None:
    for maps in (copy / ".resume" / "train_cam").glob("*/maps"):
        shutil.rmtree(maps)
    alone = both_ways(finished, copy, stage, changes)
    expected, got = files(alone / "data"), files(copy / "data")
    assert expected.keys() == got.keys()
    assert [name for name in expected if expected[name] != got[name]] == []


def curve(path: Path) -> list[list[float]]:
    return [[float(value) for value in line.split("\t")] for line in path.read_text().splitlines()[1:]]


@pytest.mark.parametrize(
    ("stage", "changes"),
    [
        pytest.param("train_cam", {}, id="train_cam"),
        pytest.param("train_weakclip", {}, id="train_weakclip"),
        pytest.param("train_weakclip", {"weakclip.boundary_crf.backend": "torch"}, id="train_weakclip_torch"),
        pytest.param("retrain_deeplab", {}, id="retrain_deeplab"),
    ],
)
def test_a_training_gives_the_same_weights_but_for_rounding(
    finished: Path, copy: Path, stage: str, changes: Mapping[str, object]
) -> None:
    shutil.rmtree(copy / ".resume")
    alone = both_ways(finished, copy, stage, changes)
    assert files(alone / "data").keys() == files(copy / "data").keys()
    expected, got = load_file(alone / WEIGHTS[stage]), load_file(copy / WEIGHTS[stage])
    assert {name: (value.shape, value.dtype) for name, value in expected.items()} == {
        name: (value.shape, value.dtype) for name, value in got.items()
    }
    differences = {name: value.astype(np.float64) - got[name] for name, value in expected.items()}
    statistics = {name for name in differences if "running_" in name or "num_batches" in name}
    drift = np.concatenate([value.ravel() for name, value in differences.items() if name not in statistics])
    # Two ranks that both computed the whole batch would have its very bits.
    assert 0 < np.sqrt(np.mean(drift**2)) < DRIFT[stage]
    for name in statistics:
        assert np.abs(differences[name]).max() <= 1e-2 * np.abs(expected[name]).max(), name
    curves = f"data/results/{stage}/plots/metrics"
    for name in files(alone / curves):
        if "val" not in name and "held_out" not in name:
            np.testing.assert_allclose(curve(copy / curves / name), curve(alone / curves / name), rtol=2e-5)  # of six digits
    if stage == "train_cam":
        compare_maps(alone / "data" / "cam", copy / "data" / "cam")


def compare_maps(expected: Path, got: Path) -> None:
    """Maps of two classifiers that differ by rounding, and the labels and seeds of these: a value may lie on a threshold."""
    maps, others = ScoreStore(expected / "cams"), ScoreStore(got / "cams")
    assert len(maps.image_ids) == IMAGES and maps.image_ids == others.image_ids
    for image_id in maps.image_ids:
        (classes, values), (other_classes, other_values) = maps.read(image_id), others.read(image_id)
        assert classes.tolist() == other_classes.tolist()
        np.testing.assert_allclose(other_values, values, rtol=0, atol=2e-6)
    for kind in ("labels", "seeds"):
        masks = sorted((expected / kind).iterdir())
        assert len(masks) == IMAGES
        assert sum(np.count_nonzero(read_mask(mask) != read_mask(got / kind / mask.name)) for mask in masks) <= 2


def test_a_killed_rank_leaves_nothing_and_one_process_goes_on(
    finished: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(copy / "data/features")
    result = torchrun("tests.killed_rank", copy)
    assert result.returncode != 0
    assert result.stderr.count("error: another process of this run has ended") <= 1
    assert "RuntimeError" not in result.stderr.replace("error: another", "")
    assert not (copy / "data/features").exists()
    assert [path.name for path in (copy / ".resume").rglob("*.journal-1")] == ["shard-00000.h5.journal-1"]

    encoded: list[str] = []
    encode = cache._encode
    monkeypatch.setattr(cache, "_encode", lambda *arguments: encoded.extend(arguments[3]) or encode(*arguments))
    with one_process(copy):
        main("cache_features")
    assert len(encoded) < 3 * IMAGES  # its views
    assert files(copy / "data/features") == files(finished / "data/features")


def test_a_batch_that_two_ranks_cannot_share_is_refused_once(copy: Path) -> None:
    change_params(copy / "params.yaml", {"weakclip.batch_size": 3})
    result = torchrun("stages.train_weakclip", copy)
    assert result.returncode == 1
    assert result.stderr.count("error: weakclip.batch_size is 3, which 2 processes cannot share evenly") == 1
    assert result.stderr.count("hint: ") == 1
