"""`weakclip doctor`: what is right is a line, what is wrong is two, and the forecast agrees with what then happens."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from stages import doctor, doctor_checks
from stages.doctor import cache_link, crf, main, python, repository
from stages.doctor_checks import (
    clip_weights,
    dataset,
    dataset_lines,
    encoder_weights,
    features,
    forecast,
    photos,
    second_encoder_weights,
    skipped_lines,
)
from tests.conftest import ROOT, change_params
from weakclip.clip.mini import MEAN, STD
from weakclip.datasets.index import ClassList, Dataset, Record
from weakclip.errors import WeakClipError
from weakclip.features.index import write_index
from weakclip.image_figures import ImageFigures, ImageIds
from weakclip.params import load


@pytest.fixture
def project(workspace: Path) -> Path:
    """A drawn mini world with its features, and what DVC needs to find the stages."""
    shutil.copyfile(ROOT / "dvc.yaml", "dvc.yaml")
    shutil.copytree(ROOT / ".dvc", ".dvc", ignore=shutil.ignore_patterns("cache", "tmp"))
    subprocess.run(["git", "init", "--quiet"], check=True)
    return workspace


def test_a_sound_project_gets_a_forecast_of_every_later_stage(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main()
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert captured.err == ""
    begun = ["Python", "packages", "DVC", "CRF", "device", "parameters", "photos", "dataset", "dataset", "clip.weights"]
    begun += ["features", "deeplab.encoder_weights", "forecast"]
    told = [line for line in lines if not line.startswith(("hint: ", "  "))]
    assert [line.split()[1].strip(":,") for line in told] == begun
    few = [line for line in told if line.startswith("warning: dataset: classes with fewer than 5 training images")]
    assert len(few) == 1  # there are twelve images
    assert [line for line in told if not line.startswith("ok: ")] == few
    rows = {line.split()[0]: line.split() for line in lines if line.startswith("  ")}
    assert list(rows)[:2] == ["stage", "cache_features"] and list(rows)[-2:] == ["evaluate", "all"]
    stored = sum(path.stat().st_size for path in Path("data/features").glob("*.h5"))
    value, unit = rows["cache_features"][1:3]
    assert float(value) * {"kB": 1e3, "MB": 1e6}[unit] == pytest.approx(stored, rel=0.1)


def test_a_disk_that_is_too_small_is_an_error(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=1000))
    monkeypatch.setattr(doctor_checks, "used", lambda path: 0)
    with pytest.raises(WeakClipError, match=r"the pipeline needs about .*the disk has 1\.0 kB") as caught:
        forecast(load(), Path("data/dataset"), linked=False)
    assert "features.dtype to int8" in caught.value.hint
    assert "DVC's copies included" in capsys.readouterr().out


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
    Path("data/raw/nowhere").mkdir()
    Path("data/raw/nowhere/README.md").touch()  # as in a fresh clone
    with pytest.raises(WeakClipError, match="is empty"):
        photos(load())
    change_params(Path("params.yaml"), {"clip.weights": "data/raw/clip.pt"})
    with pytest.raises(WeakClipError, match=r"clip.weights data/raw/clip.pt is missing"):
        clip_weights(load())


def test_weights_to_download_are_looked_for_here_then_on_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "params.yaml"
    shutil.copyfile(ROOT / "weakclip" / "presets" / "folder-openai.yaml", file)
    asked: list[str] = []

    def answer(reason: str) -> None:
        monkeypatch.setattr(doctor_checks, "unreachable", lambda download: asked.append(download.words) or reason)

    monkeypatch.setattr(doctor_checks, "cached", lambda download: None)
    answer("")
    assert clip_weights(load(file)).text.endswith("to be downloaded when first needed; can be reached")
    answer("no route to host")
    with pytest.raises(WeakClipError, match="cannot be reached: no route to host") as caught:
        encoder_weights(load(file))
    assert "model.safetensors of timm/" in caught.value.hint
    assert "`dvc exp run -S deeplab.encoder_weights=data/raw/model.safetensors`" in caught.value.hint
    assert asked[0] == "open_clip_model.safetensors of timm/vit_base_patch16_clip_224.openai on the Hugging Face hub"
    monkeypatch.setattr(doctor_checks, "cached", lambda download: Path("/cache/file"))
    assert clip_weights(load(file)).text.endswith("downloaded already (/cache/file)")


def test_weights_of_another_activation_are_an_error(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    shutil.copyfile(ROOT / "weakclip" / "presets" / "folder-openai.yaml", file)
    change_params(file, {"clip.model": "ViT-B-16"})
    with pytest.raises(WeakClipError, match="OpenAI's weights need QuickGELU") as caught:
        clip_weights(load(file))
    assert caught.value.hint == "set clip.model to ViT-B-16-quickgelu"
    change_params(file, {"clip.weights": "metaclip_400m"})
    with pytest.raises(WeakClipError, match="the weights metaclip_400m need QuickGELU"):
        clip_weights(load(file))


def test_features_of_another_preprocessing_are_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    p = load(ROOT / "params.yaml")
    assert features(p) is None
    Path("data/features").mkdir(parents=True)
    attributes = {"model": "mini", "weights": "mini", "mean": list(MEAN), "std": list(STD)}
    none = ImageFigures[int](ImageIds([]), np.zeros(0, np.int64))
    write_index(Path("data/features"), attributes, [], none)
    found = features(p)
    assert found is not None and not found.hint
    write_index(Path("data/features"), attributes | {"mean": [0.5, 0.5, 0.5]}, [], none)
    found = features(p)
    assert found is not None and "mean [0.5, 0.5, 0.5]" in found.text and "dvc repro cache_features" in found.hint
    Path("data/features/index.json").write_text("{")
    with pytest.raises(WeakClipError, match="is damaged") as caught:
        features(p)
    assert "dvc repro --force cache_features" in caught.value.hint


def test_what_is_odd_about_a_dataset_is_told() -> None:
    def record(number: int, tags: tuple[int, ...]) -> Record:
        name = f"i{number}"
        return Record(image_id=name, photo=name, height=9, width=9, split="train", tags=tags, mask=None)

    classes = ClassList(names=("cat", "dgo"), synonyms=((), ()), background_words=())
    records = tuple(record(number, (1,) if number else ()) for number in range(7))
    sound, rare, untagged, no_val = dataset_lines(Dataset(name="folder", classes=classes, records=records))
    assert sound.text == "dataset: 7 training and 0 validation images of 2 classes, 0 with true masks" and not sound.hint
    assert "dgo (0)" in rare.text and "cat" not in rare.text and "spelt" in rare.hint
    assert "1 of 7 training images have no tag" in untagged.text
    assert "nothing to evaluate" in no_val.text
    (skipped,) = skipped_lines(3, 7, Path("data/dataset"))
    assert "3 of 10 photos were left out" in skipped.text and skipped.hint
    assert skipped_lines(0, 7, Path("data/dataset")) == []


def test_a_class_that_is_everywhere_is_a_warning() -> None:
    records = tuple(
        Record(image_id=f"i{number}", photo="i", height=9, width=9, split=split, tags=tags, mask=None)
        for number, (split, tags) in enumerate([*[("train", (1, 2))] * 5, ("train", (1,)), ("val", (1,))])
    )
    classes = ClassList(names=("cat", "dog"), synonyms=((), ()), background_words=())
    _, everywhere = dataset_lines(Dataset(name="folder", classes=classes, records=records))
    assert everywhere.text == "dataset: classes that every training image has: cat" and "without them" in everywhere.hint


def test_photos_that_have_gone_are_an_error(workspace: Path) -> None:
    gone = next(Path("data/dataset/images").iterdir())
    gone.unlink()
    with pytest.raises(WeakClipError, match=f"1 of 18 photos are missing, first {gone}"):
        dataset(Path("data/dataset"))


@pytest.mark.parametrize(
    ("config", "able", "link"),
    [
        ("", "hardlink, symlink", "copy"),
        ("[cache]\n    type = copy\n", "hardlink, symlink", "copy"),
        ('[cache]\n    type = "reflink,hardlink,copy"\n', "hardlink, symlink", "hardlink"),
        ('[cache]\n    type = "reflink,hardlink,copy"\n', "reflink, hardlink, symlink", "reflink"),
        ('[cache]\n    type = "reflink,hardlink,symlink"\n', "symlink", "symlink"),
        ('[cache]\n    type = "reflink,hardlink"\n', "<https://error.dvc.org/no-dvc-cache>", "hardlink"),
    ],
)
def test_a_cache_links_as_configured_where_the_disk_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: str, able: str, link: str
) -> None:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text(config)
    told = subprocess.CompletedProcess([], 0, stdout=f"Supports:\nCache types: {able}\nCaches: local\n", stderr="")
    monkeypatch.setattr(doctor, "dvc", lambda *arguments, folder: told)
    assert cache_link(tmp_path) == link


def test_a_cache_that_copies_is_a_warning_with_the_command_that_mends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "dvc", lambda *arguments: subprocess.CompletedProcess([], 0, stdout="a\nb\n", stderr=""))
    line = repository("copy")
    assert "2 stages; its cache copies" in line.text
    assert line.hint.startswith("`dvc config cache.type reflink,hardlink,symlink,copy`")


def test_parameters_that_dvc_cannot_read_are_to_be_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    told = "ERROR: unable to read: 'params.yaml', YAML file structure is corrupted\n"
    monkeypatch.setattr(doctor, "dvc", lambda *arguments: subprocess.CompletedProcess([], 251, stdout="", stderr=told))
    with pytest.raises(WeakClipError, match=r"DVC cannot read the stages: unable to read: 'params\.yaml'") as caught:
        repository("hardlink")
    assert caught.value.hint == "correct it, or write it anew: `weakclip preset NAME`"


def test_a_crf_that_is_not_there_says_how_to_build_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydensecrf.densecrf", None)
    with pytest.raises(WeakClipError, match="pydensecrf2") as caught:
        crf()
    assert "`pip install pydensecrf2`" in caught.value.hint


def test_another_python_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 1))
    with pytest.raises(WeakClipError, match=r"needs 3\.11 or 3\.12"):
        python()


def test_nothing_is_forecast_before_the_images_are_counted(workspace: Path) -> None:
    shutil.rmtree("data/dataset")
    assert "before `dvc repro prepare_dataset`" in forecast(load(), Path("data/dataset"), linked=True).text


def test_weights_of_a_second_encoder_are_looked_for(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    shutil.copyfile(ROOT / "weakclip" / "presets" / "mini.yaml", file)
    assert second_encoder_weights(load(file)) is None
    change_params(file, {"features.second_encoder": "vit_tiny_patch16_224", "features.second_weights": "data/raw/none.pth"})
    with pytest.raises(WeakClipError, match=r"features\.second_weights data/raw/none\.pth is missing"):
        second_encoder_weights(load(file))
