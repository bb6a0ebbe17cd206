"""`weakclip doctor`: what is right is a line, what is wrong is two, and the forecast agrees with what then happens."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from stages import doctor
from stages.doctor import cache_links, main, photos, weights
from tests.conftest import ROOT, change_params
from weakclip.datasets.index import Record
from weakclip.errors import WeakClipError
from weakclip.forecast import score_bytes, window_tokens
from weakclip.params import load


@pytest.fixture
def project(workspace: Path) -> Path:
    """A drawn mini world with its features, and what DVC needs to find the stages."""
    shutil.copyfile(ROOT / "dvc.yaml", "dvc.yaml")
    shutil.copytree(ROOT / ".dvc", ".dvc", ignore=shutil.ignore_patterns("cache", "tmp"))
    subprocess.run(["git", "init", "--quiet"], check=True)
    return workspace


def test_a_sound_project_gets_a_forecast_of_every_stage(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main()
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert captured.err == ""
    begun = [
        "packages",
        "DVC",
        "device",
        "parameters",
        "photos",
        "weights",
        "forecast, from what was timed just now; no promise",
    ]
    assert [line.split(":")[0] for line in lines[:7]] == begun
    rows = {line.split()[0]: line.split() for line in lines[8:]}
    assert next(iter(rows)) == "cache_features" and list(rows)[-2:] == ["evaluate", "all"]
    stored = sum(path.stat().st_size for path in Path("data/features").glob("*.h5"))
    value, unit = rows["cache_features"][1:3]
    assert float(value) * {"kB": 1e3, "MB": 1e6}[unit] == pytest.approx(stored, rel=0.1)


def test_a_disk_that_is_too_small_is_an_error(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=1000))
    monkeypatch.setattr(doctor, "used", lambda path: 0)
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 1
    error, hint = capsys.readouterr().err.splitlines()
    assert error.startswith("error: the pipeline needs about ") and error.endswith("the disk has 1.0 kB")
    assert "features.dtype to int8" in hint


def test_all_problems_are_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # no repository here
    monkeypatch.setitem(doctor.MODULES, "no_such_module", "no-such-package")
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["error", "hint"] * 2
    assert "no-such-package" in lines[0] and "DVC cannot read the stages" in lines[2]


def test_photos_and_weights_that_are_not_there_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(ROOT / "weakclip" / "presets" / "folder-openai.yaml", "params.yaml")
    with pytest.raises(WeakClipError, match="data/raw/photos is missing") as caught:
        photos(load())
    assert "weakclip preset folder --root DIR" in caught.value.hint
    Path("data/raw").mkdir(parents=True)
    Path("data/raw/photos").symlink_to("nowhere")
    with pytest.raises(WeakClipError, match="links to nothing"):
        photos(load())
    assert "clip.weights" in weights(load())
    change_params(Path("params.yaml"), {"clip.weights": "data/raw/clip.pt"})
    with pytest.raises(WeakClipError, match=r"clip.weights data/raw/clip.pt is missing"):
        weights(load())


@pytest.mark.parametrize(
    ("config", "links"),
    [("", False), ("[cache]\n    type = copy\n", False), ('[cache]\n    type = "reflink,hardlink,copy"\n', True)],
)
def test_a_cache_that_copies_is_known_by_its_configuration(tmp_path: Path, config: str, links: bool) -> None:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text(config)
    assert cache_links(tmp_path) is links


def test_the_arithmetic_of_scores_and_windows() -> None:
    def record(height: int, width: int, tags: tuple[int, ...]) -> Record:
        return Record(image_id="a", photo=Path("a"), height=height, width=width, split="train", tags=tags, mask=None)

    records = [record(100, 200, (1, 2)), record(200, 100, (3,))]
    assert score_bytes(records) == 2 * 20_000 * 3 + 2 * 20_000 * 2
    # 64 x 128 pixels: windows of 64 at 0, 32 and 64, of 8 x 8 tokens each, all of it mirrored too
    tokens = window_tokens(records, scales=(1.0,), flip=True, base_size=(128, 64), window=64, stride=32, patch=8)
    assert tokens == 2 * 2 * 3 * 64


def test_nothing_is_forecast_before_the_images_are_counted(workspace: Path) -> None:
    shutil.rmtree("data/dataset")
    assert "before `dvc repro prepare_dataset`" in doctor.forecast(load(), Path("data/dataset"))
