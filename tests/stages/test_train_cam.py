import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from stages import train_cam
from tests.conftest import change_params
from weakclip.cam import fitting, inference
from weakclip.datasets.index import read_dataset
from weakclip.errors import WeakClipError
from weakclip.masks import IGNORE, read_mask
from weakclip.scores import ScoreStore
from weakclip.sealed import sealed, unsealed
from weakclip.weights import load_weights

METRICS = Path("data/results/train_cam/metrics.json")
OUTS = (Path("data/cam"), Path("data/results/train_cam"))


@pytest.fixture(autouse=True)
def without_seeds(workspace: Path) -> None:
    shutil.rmtree("data/cam")
    change_params(Path("params.yaml"), {"cam.background_threshold": 0.5, "cam.unsure_margin": 0.0})


def outs() -> dict[str, bytes]:
    return {path.as_posix(): path.read_bytes() for folder in OUTS for path in sorted(folder.rglob("*")) if path.is_file()}


def seeds() -> np.ndarray:
    return np.stack([read_mask(path) for path in sorted(Path("data/cam/seeds").iterdir())])


def no_step(*_: object) -> torch.Tensor:
    raise AssertionError("no step is trained")


def test_classifier_maps_seeds_and_figures_are_written(capsys: pytest.CaptureFixture[str]) -> None:
    train_cam.main()

    metrics = json.loads(METRICS.read_text())
    assert list(metrics) == ["tags", "seed", "checksum"] and 0 <= metrics["tags"]["map"] <= 100
    assert list(metrics["seed"]) == ["miou", "split", "n", "source", "scales", "flip", "crf"]
    assert (metrics["seed"]["split"], metrics["seed"]["n"], metrics["seed"]["source"]) == ("train", 12, "classifier")
    assert {"cams", "classifier.json", "classifier.safetensors", "labels", "seeds"} == {path.name for path in OUTS[0].iterdir()}
    store = ScoreStore(Path("data/cam/cams"))
    for record in read_dataset(Path("data/dataset")).training:
        seed = read_mask(Path(f"data/cam/seeds/{record.image_id}.png"))
        assert seed.shape == (record.height, record.width) and set(np.unique(seed)) <= {0, *record.tags}
        assert store.read(record.image_id)[0].tolist() == list(record.tags)
    assert (OUTS[1] / "plots/metrics/tag_loss.tsv").is_file()
    printed = f"  tag mAP {metrics['tags']['map']}  seed {metrics['seed']['miou']} mIoU"
    assert f"{printed}   wrote data/cam (" in capsys.readouterr().out


def test_a_changed_threshold_does_not_train_again(monkeypatch: pytest.MonkeyPatch) -> None:
    train_cam.main()
    first, low = outs(), seeds()
    monkeypatch.setattr(fitting, "tag_loss", no_step)
    change_params(Path("params.yaml"), {"cam.background_threshold": 0.9, "cam.unsure_margin": 0.05})
    train_cam.main()

    high = seeds()
    assert (high != low).any() and (high == IGNORE).any()
    assert ((high == 0) | (high == low) | (high == IGNORE)).all()
    thresholded = ("data/cam/seeds", "data/cam/labels")
    same = [name for name in first if not name.startswith(thresholded) and not name.endswith("metrics.json")]
    assert {name: outs()[name] for name in same} == {name: first[name] for name in same}

    change_params(Path("params.yaml"), {"cam.background_threshold": 0.5, "cam.unsure_margin": 0.0})
    train_cam.main()
    assert outs() == first


def test_what_trains_the_classifier_trains_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    train_cam.main()
    monkeypatch.setattr(fitting, "tag_loss", no_step)
    change_params(Path("params.yaml"), {"cam.temperature": 0.2})
    with pytest.raises(AssertionError, match="no step"):
        train_cam.main()


def test_a_second_run_from_nothing_gives_the_same_bytes() -> None:
    train_cam.main()
    first = outs()
    shutil.rmtree(".resume")
    train_cam.main()
    assert outs() == first


def test_seeds_are_imported_without_a_classifier(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree("data/dataset/masks", "data/raw/seeds")
    monkeypatch.setattr(train_cam, "load_same_clip", no_step)
    change_params(Path("params.yaml"), {"cam.source": "import", "cam.import_folder": "data/raw/seeds"})
    train_cam.main()

    metrics = json.loads(METRICS.read_text())
    assert list(metrics) == ["seed", "checksum"] and metrics["seed"]["miou"] == 100 and metrics["seed"]["source"] == "import"
    assert {path.name for path in OUTS[0].iterdir()} == {"labels", "seeds"} and len(seeds()) == 12
    assert (OUTS[1] / "plots").is_dir()
    assert "  seed 100.0 mIoU   wrote data/cam (" in capsys.readouterr().out


def test_an_incomplete_folder_of_seeds_is_refused() -> None:
    Path("data/raw/seeds").mkdir(parents=True)
    change_params(Path("params.yaml"), {"cam.source": "import", "cam.import_folder": "data/raw/seeds"})
    with pytest.raises(WeakClipError, match="missing the seeds of 12 of 12"):
        train_cam.main()
    assert not Path("data/cam").exists()


def test_imported_maps_are_spread_by_attention() -> None:
    folder = Path("data/raw/seeds")
    folder.mkdir(parents=True)
    records = read_dataset(Path("data/dataset")).training
    for record in records:
        masks = read_mask(record.mask)  # type: ignore[arg-type]
        found = {tag - 1: np.where(masks == tag, 1.0, 0.2).astype(np.float32) for tag in record.tags}
        np.save(folder / f"{record.image_id}.npy", np.array(found, dtype=object), allow_pickle=True)
    change_params(Path("params.yaml"), {"cam.source": "import", "cam.import_folder": folder.as_posix()})
    train_cam.main()
    plain = seeds()
    change_params(Path("params.yaml"), {"cam.affinity_blocks": 2})
    train_cam.main()
    assert seeds().shape == plain.shape and 0.02 < (seeds() != plain).mean() < 0.9
    spread = outs()
    train_cam.main()
    assert outs() == spread

    shutil.copy(f"data/dataset/masks/{records[3].image_id}.png", folder)
    with pytest.raises(WeakClipError, match=rf"has masks of 1 of 12 .*first: {records[3].image_id}\.png") as caught:
        train_cam.main()
    assert "set cam.affinity_blocks to 0" in caught.value.hint


def test_features_of_another_encoder_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    index = Path("data/features/index.json")
    content = unsealed(index.read_bytes())
    content["attributes"]["weights_hash"] = "0" * 64
    index.write_text(json.dumps(sealed(content)))
    with pytest.raises(WeakClipError, match="data/features was made with other weights of mini"):
        train_cam.main()


@pytest.mark.parametrize("source", ["gradcam", "calibrated"])
def test_sources_that_train_nothing_need_no_step(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "tag_loss", no_step)
    change_params(Path("params.yaml"), {"cam.source": source, "cam.calibrated_blocks": 1, "cam.affinity_blocks": 2})
    train_cam.main()

    metrics = json.loads(METRICS.read_text())
    assert list(metrics) == ["seed", "checksum"] and metrics["seed"]["source"] == source
    assert {path.name for path in OUTS[0].iterdir()} == {"cams", "labels", "seeds"}
    store = ScoreStore(Path("data/cam/cams"))
    for record in read_dataset(Path("data/dataset")).training:
        classes, maps = store.read(record.image_id)
        assert classes.tolist() == list(record.tags) and maps.dtype == np.float32
        assert maps.min() >= 0 and maps.max() <= 1 + 1e-5
    first = outs()
    shutil.rmtree(".resume")
    train_cam.main()
    assert outs() == first


def test_no_steps_leave_clips_zero_shot_answer() -> None:
    change_params(Path("params.yaml"), {"cam.iterations": 0})
    train_cam.main()
    weights, _ = load_weights(Path("data/cam"), "classifier")
    assert weights["adapter.weight"].abs().max() == 0


def test_spreading_by_attention_keeps_the_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    train_cam.main()
    first = outs()
    monkeypatch.setattr(fitting, "tag_loss", no_step)
    change_params(Path("params.yaml"), {"cam.affinity_blocks": 1})
    train_cam.main()
    assert outs()["data/cam/classifier.safetensors"] == first["data/cam/classifier.safetensors"]
    assert {name for name in outs() if name.startswith("data/cam/cams")} == {n for n in first if n.startswith("data/cam/cams")}
    assert any(outs()[name] != first[name] for name in first if name.startswith("data/cam/cams"))
    change_params(Path("params.yaml"), {"cam.affinity_blocks": 0})
    train_cam.main()
    assert outs() == first


def test_other_thresholds_do_not_make_the_maps_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    train_cam.main()
    monkeypatch.setattr(inference, "fuse_views", no_step)
    change_params(Path("params.yaml"), {"cam.threshold": "mixture"})
    train_cam.main()
    thresholds = json.loads(METRICS.read_text())["seed"]["thresholds"]
    assert list(thresholds) == list(read_dataset(Path("data/dataset")).classes.names)
    assert all(0 < own["at"] < 1 and own["below"] >= 0 for own in thresholds.values())


@pytest.mark.parametrize(
    ("changes", "problem", "hint"),
    [
        ({"cam.affinity_blocks": 4}, "cam.affinity_blocks 4 needs the tokens after block 0", r"clip.blocks to \[0, 1, 3, 4\]"),
        ({"cam.affinity_blocks": 5}, "cam.affinity_blocks 5 would run all 5 blocks of mini", "at most 4"),
        (
            {"cam.source": "calibrated", "cam.calibrated_blocks": 4},
            "cam.calibrated_blocks 4 needs the tokens after block 0",
            r"clip.blocks to \[0, 1, 3, 4\]",
        ),
        ({"cam.descriptions": "data/raw/none.json"}, "data/raw/none.json is missing", "leave cam.descriptions empty"),
    ],
)
def test_what_the_cache_does_not_hold_is_named(changes: dict[str, object], problem: str, hint: str) -> None:
    change_params(Path("params.yaml"), changes)
    with pytest.raises(WeakClipError, match=problem) as caught:
        train_cam.main()
    assert re.search(hint, caught.value.hint)


def test_descriptions_change_the_texts() -> None:
    change_params(Path("params.yaml"), {"cam.iterations": 0})
    train_cam.main()
    plain, _ = load_weights(Path("data/cam"), "classifier")
    Path("data/raw").mkdir(exist_ok=True)
    Path("data/raw/descriptions.json").write_text(json.dumps({"cat": ["a cat on grass", "a cat on sand"]}))
    change_params(Path("params.yaml"), {"cam.descriptions": "data/raw/descriptions.json"})
    train_cam.main()
    described, _ = load_weights(Path("data/cam"), "classifier")
    background = len(read_dataset(Path("data/dataset")).classes.names)
    assert not torch.equal(described["texts"][:background], plain["texts"][:background])
    assert torch.equal(described["texts"][background:], plain["texts"][background:])
