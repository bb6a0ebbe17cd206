"""Every stage as two ranks, as torchrun starts them: the artefacts of one process."""

import contextlib
import importlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from stages import cache_features
from tests.conftest import change_params
from tests.torchrun import torchrun
from weakclip.features import cache

PER_IMAGE = ("cache_features", "generate_masks", "refine_masks", "evaluate")
TRAININGS = {
    "train_cam": "data/cam/classifier.safetensors",
    "train_weakclip": "data/weakclip/weakclip.safetensors",
    "retrain_deeplab": "data/deeplab/deeplab.safetensors",
}
ORDER = ("cache_features", "train_cam", "train_weakclip", "generate_masks", "refine_masks", "retrain_deeplab", "evaluate")


@pytest.fixture(scope="module")
def finished(drawn_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which one process of one thread has run all stages; tests work on copies."""
    folder = tmp_path_factory.mktemp("finished") / "workspace"
    shutil.copytree(drawn_workspace, folder)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setenv("WEAKCLIP_WORKERS", "1")
        patch.setenv("WEAKCLIP_DEVICE", "cpu")
        for stage in ORDER:
            importlib.import_module(f"stages.{stage}").main()
    torch.set_num_threads(threads)
    return folder


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "workspace"))


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("stage", PER_IMAGE)
def test_a_stage_that_works_image_by_image_gives_the_same_bytes(finished: Path, copy: Path, stage: str) -> None:
    result = torchrun(f"stages.{stage}", copy)
    assert result.returncode == 0, result.stderr
    expected, got = files(finished / "data"), files(copy / "data")
    assert expected.keys() == got.keys()
    assert [name for name in expected if expected[name] != got[name]] == []
    assert result.stdout.count("100 %") <= 1  # one of them talks


def curve(path: Path) -> list[list[float]]:
    return [[float(value) for value in line.split("\t")] for line in path.read_text().splitlines()[1:]]


@pytest.mark.parametrize("stage", TRAININGS)
def test_a_training_gives_the_same_weights_but_for_rounding(finished: Path, copy: Path, stage: str) -> None:
    result = torchrun(f"stages.{stage}", copy)
    assert result.returncode == 0, result.stderr
    expected, got = load_file(finished / TRAININGS[stage]), load_file(copy / TRAININGS[stage])
    assert expected.keys() == got.keys()
    for name, tensor in expected.items():
        np.testing.assert_allclose(got[name], tensor, rtol=1e-5, atol=5e-3, err_msg=name)
    curves = f"data/results/{stage}/plots/metrics"
    assert files(finished / curves).keys() == files(copy / curves).keys()
    for name in files(finished / curves):
        if "val" not in name and "held_out" not in name:
            np.testing.assert_allclose(curve(copy / curves / name), curve(finished / curves / name), rtol=1e-4)


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

    monkeypatch.chdir(copy)
    monkeypatch.setenv("WEAKCLIP_WORKERS", "1")
    monkeypatch.setenv("WEAKCLIP_DEVICE", "cpu")
    encoded: list[str] = []
    encode = cache._encode
    monkeypatch.setattr(cache, "_encode", lambda *arguments: encoded.extend(arguments[3]) or encode(*arguments))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    cache_features.main()
    torch.set_num_threads(threads)
    assert len(encoded) < 36  # of all views, 3 of each of the 12 images
    assert files(copy / "data/features") == files(finished / "data/features")


def test_a_batch_that_two_ranks_cannot_share_is_refused_once(copy: Path) -> None:
    change_params(copy / "params.yaml", {"weakclip.batch_size": 3})
    result = torchrun("stages.train_weakclip", copy)
    assert result.returncode == 1
    assert result.stderr.count("error: weakclip.batch_size is 3, which 2 processes cannot share evenly") == 1
    assert result.stderr.count("hint: ") == 1
