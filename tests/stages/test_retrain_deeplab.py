import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages import retrain_deeplab, upper_bound
from tests.conftest import change_params
from tests.deeplab.slim_resnet38 import make_slim, write_weights
from weakclip.datasets.index import ClassList, Dataset, Record, write_dataset
from weakclip.deeplab.prediction import load_deeplab, predict_probabilities
from weakclip.deeplab.resnet38 import ResNet38
from weakclip.errors import WeakClipError
from weakclip.masks import write_mask

ROOT = Path(__file__).parents[2]
OUTS = (
    "data/deeplab/deeplab.safetensors",
    "data/deeplab/deeplab.json",
    "data/results/retrain_deeplab/metrics.json",
    "data/results/retrain_deeplab/plots/metrics/cross_entropy.tsv",
)
SMALL = {
    "deeplab.encoder_weights": "none",
    "deeplab.iterations": 3,
    "deeplab.batch_size": 2,
    "deeplab.crop_size": 32,
    "deeplab.validate_every": 2,
    "deeplab.checkpoint_every": 2,
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three training images with refined and gated masks, two val images with true masks."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WEAKCLIP_WORKERS", "1")
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    change_params(tmp_path / "params.yaml", SMALL)
    write_project(val_masks=True)
    return tmp_path


def write_project(*, val_masks: bool) -> None:
    for folder in ("data/raw", "data/masks/refined", "data/masks/gated"):
        Path(folder).mkdir(parents=True, exist_ok=True)
    records = []
    for image_id in ("a", "b", "c", "v", "w"):
        truth = np.zeros((30, 40), np.uint8)
        truth[8:22, 10:30] = 1 + (image_id in "bv")
        photo, mask = Path(f"data/raw/{image_id}.png"), Path(f"data/raw/{image_id}.mask.png")
        Image.fromarray(np.repeat(truth[..., None] * 100, 3, axis=2)).save(photo)
        write_mask(mask, truth)
        split = "val" if image_id in "vw" else "train"
        if split == "train":
            write_mask(Path(f"data/masks/refined/{image_id}.png"), truth)
            write_mask(Path(f"data/masks/gated/{image_id}.png"), np.where(truth == 0, 255, truth).astype(np.uint8))
        kept = mask if val_masks or split == "train" else None
        records.append(
            Record(image_id=image_id, photo=str(photo), height=30, width=40, split=split, tags=(1,), mask=kept and str(kept))
        )
    classes = ClassList(names=("cat", "dog"), synonyms=((), ()), background_words=())
    write_dataset(Dataset(name="toy", classes=classes, records=tuple(records)), Path("data/dataset"))


def test_weights_card_metrics_and_curves_are_written_with_the_same_bytes_each_time(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    retrain_deeplab.main()
    first = {name: Path(name).read_bytes() for name in OUTS}
    figures = json.loads(first[OUTS[2]])["deeplab"]
    assert figures["masks"] == "refined" and figures["images"] == 3 and 0 <= figures["val_miou"] <= 100
    assert json.loads(first[OUTS[1]])["classes"] == ["background", "cat", "dog"]
    assert "val mIoU" in capsys.readouterr().out
    assert not list(Path(".resume/retrain_deeplab").iterdir())
    retrain_deeplab.main()
    assert first == {name: Path(name).read_bytes() for name in OUTS}


def test_the_papers_network_starts_from_mxnet_weights_and_evaluates(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_slim(monkeypatch)
    file = write_weights(ResNet38(), Path("data/raw/resnet38.params"))
    changes = {"network": "deeplabv1_resnet38", "encoder": "resnet38", "encoder_weights": str(file), "output_stride": 8}
    change_params(project / "params.yaml", {f"deeplab.{name}": value for name, value in changes.items()})
    retrain_deeplab.main()
    card = json.loads(Path(OUTS[1]).read_text())
    assert card["network"] == "deeplabv1_resnet38" and card["encoder_weights"]["name"] == "resnet38.params"
    photo = np.asarray(Image.open("data/raw/v.png"))
    found = predict_probabilities(load_deeplab(Path("data/deeplab")), photo, scales=(0.5, 1.0), flip=True)
    assert found.shape == (3, 30, 40) and np.allclose(found.sum(axis=0), 1, atol=1e-5)
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(WeakClipError, match=r"resnet38\.params is truncated"):
        retrain_deeplab.main()


def test_gated_masks_are_another_training(project: Path) -> None:
    retrain_deeplab.main()
    refined = Path(OUTS[0]).read_bytes()
    change_params(project / "params.yaml", {"deeplab.masks": "gated"})
    retrain_deeplab.main()
    assert Path(OUTS[0]).read_bytes() != refined


def test_without_true_masks_there_is_no_val_miou(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_project(val_masks=False)
    retrain_deeplab.main()
    assert "val_miou" not in json.loads(Path(OUTS[2]).read_text())["deeplab"]
    assert "mIoU" not in capsys.readouterr().out


def test_a_missing_mask_is_named_and_nothing_is_written(project: Path) -> None:
    Path("data/masks/refined/b.png").unlink()
    with pytest.raises(WeakClipError, match=r"data/masks/refined/b.png is missing"):
        retrain_deeplab.main()
    assert not Path("data/deeplab").exists()


def test_the_upper_bound_trains_on_true_masks(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    upper_bound.main()
    figures = json.loads(Path("data/upper_bound/metrics.json").read_text())
    assert figures["val"]["n"] == 2 and figures["images"] == 3 and 0 <= figures["val"]["miou"] <= 100
    assert "val.miou of full supervision" in capsys.readouterr().out


def test_the_upper_bound_is_sharpened_as_evaluate_sharpens(project: Path) -> None:
    change_params(Path("params.yaml"), {"evaluate.crf.iterations": 2})
    upper_bound.main()
    assert json.loads(Path("data/upper_bound/metrics.json").read_text())["val"]["crf"] is True


def test_the_upper_bound_says_which_masks_it_lacks(project: Path) -> None:
    write_project(val_masks=False)
    with pytest.raises(WeakClipError, match="no true masks of validation images"):
        upper_bound.main()
