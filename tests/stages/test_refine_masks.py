import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from joblib.externals.loky import get_reusable_executor
from PIL import Image

from stages import refine_masks
from tests.conftest import change_params
from weakclip import torch_crf
from weakclip.datasets.index import ClassList, Dataset, Record, write_dataset
from weakclip.errors import WeakClipError
from weakclip.masks import read_mask, write_mask
from weakclip.scores import ScoreWriter

ROOT = Path(__file__).parents[2]
CONDITIONS = ["scales", "flip", "crf", "algorithm", "backend"]
KIND_FOLDERS = ("data/masks/refined", "data/masks/gated")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three training images, two of them with a true mask, and a val image, whose scores are not there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WEAKCLIP_WORKERS", "1")
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    write_project(with_masks=True)
    return tmp_path


def write_project(*, with_masks: bool) -> None:
    rng = np.random.default_rng(1)
    shutil.rmtree("data", ignore_errors=True)
    for folder in ("data/raw/photos", "data/raw/masks", "data/masks"):
        Path(folder).mkdir(parents=True, exist_ok=True)
    records = []
    writer = ScoreWriter(Path("data/masks/scores"), ["a", "b", "c"], {})
    for image_id in ("a", "b", "c", "v"):
        truth = np.zeros((30, 40), np.uint8)
        truth[8:22, 10:30] = 2
        photo, mask = Path(f"data/raw/photos/{image_id}.png"), Path(f"data/raw/masks/{image_id}.png")
        Image.fromarray(np.where(truth, 220, 30).astype(np.uint8)).convert("RGB").save(photo)
        write_mask(mask, truth)
        if image_id != "v":
            dog = np.clip(0.4 + 0.2 * (truth == 2) + 0.15 * rng.standard_normal(truth.shape), 0, 1)
            writer.write(image_id, [0, 2], np.stack([1 - dog, dog]))
        records.append(
            Record(
                image_id=image_id,
                photo=str(photo),
                height=30,
                width=40,
                split="val" if image_id == "v" else "train",
                tags=(2,),
                mask=mask if with_masks and image_id != "b" else None,
            )
        )
    writer.finish()
    classes = ClassList(names=("cat", "dog"), synonyms=((), ()), background_words=())
    write_dataset(Dataset(name="test", classes=classes, records=tuple(records)), Path("data/dataset"))


def read_metrics() -> dict[str, dict[str, float]]:
    metrics = json.loads(Path("data/results/refine_masks/metrics.json").read_text(encoding="utf-8"))
    assert isinstance(metrics, dict)
    return metrics


def test_masks_and_figures_are_written(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refine_masks.main()
    for folder in KIND_FOLDERS:
        assert sorted(path.name for path in Path(folder).iterdir()) == ["a.png", "b.png", "c.png"]
    refined, gated = (read_mask(Path(folder) / "a.png") for folder in KIND_FOLDERS)
    assert set(np.unique(refined)) == {0, 2}
    assert set(np.unique(gated)) <= {0, 2, 255}
    assert np.array_equal(gated[gated != 255], refined[gated != 255])
    metrics = read_metrics()
    figures = metrics["refined"]
    assert list(figures) == ["miou", "split", "n", *CONDITIONS, "changed", "confidence", "tag_recall"]
    assert figures["miou"] > 95
    assert (figures["n"], figures["split"], figures["crf"], figures["tag_recall"]) == (2, "train", True, 100.0)
    assert 0 < figures["changed"] < 100
    assert 90 < metrics["gated"]["kept"] <= 100
    assert f"refined {figures['miou']} mIoU on 2 labelled train images" in capsys.readouterr().out
    assert not list(Path(".resume/refine_masks").iterdir())


def test_the_crf_in_torch_makes_the_same_masks(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    masks, asked = [], list[str]()
    in_torch = torch_crf.BatchCrf

    def watched(*arguments: Any) -> torch_crf.BatchCrf:
        asked.append(backend)
        return in_torch(*arguments)

    monkeypatch.setattr(torch_crf, "BatchCrf", watched)
    for backend in ("pydensecrf", "torch"):
        change_params(Path("params.yaml"), {"crf.backend": backend})
        refine_masks.main()
        assert read_metrics()["refined"]["backend"] == backend
        masks.append(np.concatenate([read_mask(Path(folder) / f"{name}.png") for folder in KIND_FOLDERS for name in "abc"]))
    assert asked == 3 * ["torch"]
    assert (masks[0] != masks[1]).mean() < 0.001  # in gated masks 1e-5 of a probability may tell


def test_par_is_named_in_the_figures_and_on_the_terminal(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change_params(Path("params.yaml"), {"crf.algorithm": "par"})
    refine_masks.main()
    figures = read_metrics()["refined"]
    assert (figures["crf"], figures["algorithm"], figures.get("backend")) == (False, "par", None)
    assert "PAR changed" in capsys.readouterr().out


def test_without_true_masks_there_is_no_miou(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_project(with_masks=False)
    refine_masks.main()
    assert list(read_metrics()["refined"]) == [*CONDITIONS, "changed", "confidence", "tag_recall"]
    output = capsys.readouterr().out
    assert "mIoU" not in output
    assert "tag recall 100.0 %" in output


def test_a_second_run_gives_the_same_bytes(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refine_masks.main()
    first = {path: path.read_bytes() for path in sorted(Path("data").rglob("*")) if path.is_file()}
    # joblib reuses the worker processes of earlier tests, which stand in another folder.
    get_reusable_executor().shutdown(wait=True)
    monkeypatch.setenv("WEAKCLIP_WORKERS", "2")
    refine_masks.main()
    assert {path: path.read_bytes() for path in sorted(Path("data").rglob("*")) if path.is_file()} == first


def test_an_error_leaves_no_artefact_but_what_the_next_run_goes_on_from(project: Path) -> None:
    Path("data/raw/photos/c.png").write_bytes(b"not an image")
    with pytest.raises(WeakClipError, match=r"photos/c\.png is not an image"):
        refine_masks.main()
    assert not any(Path(folder).exists() for folder in KIND_FOLDERS)
    (slot,) = Path(".resume/refine_masks").iterdir()
    assert sorted(path.name for path in (slot / "refined").iterdir()) == ["a.png", "b.png"]


def test_missing_scores_name_the_stage_that_writes_them(project: Path) -> None:
    for path in sorted(Path("data/masks/scores").iterdir()):
        path.unlink()
    with pytest.raises(WeakClipError, match="data/masks/scores") as caught:
        refine_masks.main()
    assert "generate_masks" in caught.value.hint


def test_the_stage_does_not_need_torch() -> None:
    command = "import sys, stages.refine_masks; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], cwd=ROOT, check=False).returncode == 0
