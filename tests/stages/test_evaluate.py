import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from stages import evaluate
from tests.conftest import change_params
from weakclip.datasets.index import ClassList, Dataset, Record, write_dataset
from weakclip.errors import WeakClipError
from weakclip.masks import read_mask, write_mask
from weakclip.runlog import write_metrics
from weakclip.scores import ScoreWriter
from weakclip.sealed import unsealed

ROOT = Path(__file__).parents[2]
OUT = Path("data/results/evaluate")
STAGES = {
    "train_cam": {"seed": {"miou": 40.0, "split": "train", "n": 3}},
    "generate_masks": {"pseudo": {"miou": 50.0, "split": "train", "n": 3}},
    "refine_masks": {"refined": {"miou": 60.5, "split": "train", "n": 3, "changed": 3.2, "confidence": 91.0}},
}


def predict(model: object, photo: NDArray[np.uint8], *, scales: Sequence[float], flip: bool) -> NDArray[np.float32]:
    """Stands in for a network: bright pixels are a dog with 80 %."""
    dog = np.where(photo[:, :, 0] > 100, 0.8, 0.1).astype(np.float32)
    return np.stack([0.9 - dog, np.full_like(dog, 0.1), dog])


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WEAKCLIP_WORKERS", "1")
    monkeypatch.setattr(evaluate, "load_deeplab", lambda folder: None)
    monkeypatch.setattr(evaluate, "predict_probabilities", predict)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    write_project(labelled="train val")
    return tmp_path


def write_project(*, labelled: str) -> None:
    """Three training and two val photos of a bright dog; ``labelled``: the splits that have true masks."""
    folders = {kind: Path(f"data/{kind}") for kind in ("cam/labels", "masks/pseudo", "masks/refined", "raw", "deeplab")}
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    records = []
    for number, image_id in enumerate(("a", "b", "c", "v", "w")):
        truth = np.zeros((20, 30), np.uint8)
        truth[5:15, 5 : 10 + 3 * number] = 2
        photo, mask = Path(f"data/raw/{image_id}.png"), Path(f"data/raw/{image_id}_mask.png")
        Image.fromarray(np.where(truth, 220, 30).astype(np.uint8)).convert("RGB").save(photo)
        true = truth.copy()
        true[0] = 255
        true[14] = 0  # the network is wrong in this row of the dog
        write_mask(mask, true)
        split = "val" if image_id in "vw" else "train"
        if split == "train":
            for folder in folders.values():
                write_mask(folder / f"{image_id}.png", truth)
        records.append(
            Record(
                image_id=image_id,
                photo=str(photo),
                height=20,
                width=30,
                split=split,
                tags=(2,) if image_id != "w" else (1, 2),
                mask=mask if split in labelled else None,
            )
        )
    classes = ClassList(names=("cat", "dog"), synonyms=((), ()), background_words=())
    write_dataset(Dataset(name="test", classes=classes, records=tuple(records)), Path("data/dataset"))
    for stage, metrics in STAGES.items():
        folder = Path("data/results") / stage
        folder.mkdir(parents=True, exist_ok=True)
        blocks = {name: {key: value for key, value in block.items() if key != "miou"} for name, block in metrics.items()}
        write_metrics(folder / "metrics.json", metrics if "train" in labelled else blocks)


def read(name: str) -> object:
    content = (OUT / name).read_bytes()
    return unsealed(content) if name == "metrics.json" else json.loads(content)


def test_figures_tables_predictions_and_report_are_written(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate.main()
    # Val dogs are 10 x 14 and 10 x 17 pixels, one row of each is wrong; the background has 19 x 30 pixels that count.
    dog, background = 9 / 10, (2 * 570 - 310) / (2 * 570 - 279)
    miou = round(50 * (dog + background), 2)
    assert read("metrics.json") == {
        "val": {
            "miou": miou,
            "split": "val",
            "n": 2,
            "confidence": 80.0,
            "tag_recall": 66.67,
            "scales": [1.0],
            "flip": True,
            "crf": False,
        }
    }
    rows = read("class_iou.json")
    assert isinstance(rows, list)
    assert [(row["class"], row["iou"]) for row in rows] == [("background", round(100 * background, 2)), ("dog", 90.0)]
    assert set(rows[0]) == {"class", "iou", "seed", "pseudo", "refined"}
    assert {"actual": "dog", "predicted": "dog", "share": 1.0} in read("confusion.json")
    assert read("quality.json") == [
        {"stage": "seed", "miou": 40.0},
        {"stage": "pseudo", "miou": 50.0},
        {"stage": "refined", "miou": 60.5},
        {"stage": "val", "miou": miou},
    ]
    assert (read_mask(OUT / "predictions/v.png") == 2).sum() == 140
    assert sorted(path.name for path in (OUT / "predictions").iterdir()) == ["v.png", "w.png"]
    output = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in output] == ["seed", "pseudo", "refined", "val", "wrote"]
    assert "+10.50" in output[2]
    assert output[-1].endswith("data/results/evaluate/report/index.html")


def test_a_crf_sharpens_what_the_network_found_and_the_figures_say_so(project: Path) -> None:
    evaluate.main()
    before = {name: read_mask(OUT / f"predictions/{name}.png") for name in "vw"}
    change_params(Path("params.yaml"), {"evaluate.crf.iterations": 5})
    evaluate.main()
    metrics = read("metrics.json")
    assert isinstance(metrics, dict) and metrics["val"]["crf"] is True
    assert metrics["val"]["confidence"] > 90  # 80 before
    assert all(np.array_equal(read_mask(OUT / f"predictions/{name}.png"), before[name]) for name in "vw")


def test_training_images_show_all_columns_and_val_images_three(project: Path) -> None:
    writer = ScoreWriter(Path("data/cam/cams"), "abc", {})
    for image_id in "abc":
        writer.write(image_id, (2,), np.full((1, 2, 3), 0.5, np.float32))
    writer.finish()
    evaluate.main()
    names = {path.stem for path in (OUT / "report/images").iterdir()}
    columns = ("photo", "cam", "seed", "pseudo", "refined", "deeplab", "truth")
    assert names == {f"{image_id}_{column}" for image_id in "abc" for column in columns} | {
        f"{image_id}_{column}" for image_id in "vw" for column in ("photo", "deeplab", "truth")
    }
    page = (OUT / "report/index.html").read_text(encoding="utf-8")
    files = sorted(path.name for path in (OUT / "report/images").iterdir())
    assert all(f'src="images/{file}"' in page for file in files)
    # the seed of `a` is a dog of 50 pixels, 5 of them wrong, on a background of 525 pixels that count
    assert f"<figcaption>CAM seed <b>{50 * (45 / 50 + 520 / 525):.1f}</b>" in page


def test_the_same_photos_are_drawn_for_plots_whatever_the_result(project: Path) -> None:
    evaluate.main()
    names = {path.name for path in (OUT / "overlays").iterdir()}
    assert names == {"refined_a.png", "refined_b.png", "refined_c.png", "deeplab_v.png", "deeplab_w.png"}


def test_imported_seeds_have_no_maps_to_show(project: Path) -> None:
    evaluate.main()
    assert not list((OUT / "report/images").glob("*_cam.png"))


def test_without_any_true_masks_it_reports_what_is_known(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_project(labelled="")
    evaluate.main()
    metrics = read("metrics.json")
    assert isinstance(metrics, dict)
    assert "miou" not in metrics["val"]
    assert (metrics["val"]["confidence"], metrics["val"]["tag_recall"], metrics["val"]["n"]) == (80.0, 66.67, 2)
    assert read("class_iou.json") == read("confusion.json") == read("quality.json") == []
    output = capsys.readouterr().out
    assert "66.67 %  tags found by DeepLab in validation images" in output
    assert "3.20 %  pixels changed by refinement" in output
    page = (OUT / "report/index.html").read_text(encoding="utf-8")
    assert "no true masks, so no mIoU" in page
    assert "worst: changed by refinement 0.0 %" in page
    assert "worst: mean confidence 80.0 %" in page
    assert "<figcaption>DeepLab <b>80 % sure</b>" in page


def test_with_true_masks_of_val_only_there_is_a_val_figure(project: Path) -> None:
    write_project(labelled="val")
    evaluate.main()
    quality = read("quality.json")
    assert isinstance(quality, list)
    assert [row["stage"] for row in quality] == ["val"]


def test_a_second_run_gives_the_same_bytes(project: Path) -> None:
    evaluate.main()
    first = {path: path.read_bytes() for path in sorted(OUT.rglob("*")) if path.is_file()}
    evaluate.main()
    assert {path: path.read_bytes() for path in sorted(OUT.rglob("*")) if path.is_file()} == first


def test_missing_metrics_name_the_stage_that_writes_them(project: Path) -> None:
    Path("data/results/train_cam/metrics.json").unlink()
    with pytest.raises(WeakClipError, match=r"train_cam/metrics\.json is missing") as caught:
        evaluate.main()
    assert "dvc repro train_cam" in caught.value.hint
