import contextlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from stages import generate_masks, train_weakclip
from tests.conftest import change_params
from weakclip import pseudo_masks
from weakclip.datasets.index import read_dataset
from weakclip.errors import WeakClipError
from weakclip.masks import read_mask
from weakclip.scores import ScoreStore
from weakclip.sealed import sealed, unsealed

METRICS = Path("data/results/generate_masks/metrics.json")
OUTS = (Path("data/masks"), METRICS.parent)
SMALL = {
    "weakclip.iterations": 2,
    "weakclip.boundary_weight": 0.0,
    "weakclip.decoder_width": 16,
    "weakclip.channels": 16,
    "masks.flip": False,
}


@pytest.fixture(scope="module")
def trained(drawn_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a WeakCLIP, barely trained."""
    folder = tmp_path_factory.mktemp("trained") / "workspace"
    shutil.copytree(drawn_workspace, folder)
    change_params(folder / "params.yaml", SMALL)
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setenv("WEAKCLIP_WORKERS", "1")
        train_weakclip.main()
    return folder


@pytest.fixture(autouse=True)
def workspace(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(trained, tmp_path / "workspace")
    monkeypatch.chdir(tmp_path / "workspace")
    monkeypatch.setenv("WEAKCLIP_WORKERS", "1")
    monkeypatch.setenv("WEAKCLIP_DEVICE", "cpu")


def outs() -> dict[str, bytes]:
    return {path.as_posix(): path.read_bytes() for folder in OUTS for path in sorted(folder.rglob("*")) if path.is_file()}


def test_scores_masks_and_figures_are_written(capsys: pytest.CaptureFixture[str]) -> None:
    generate_masks.main()

    figures = json.loads(METRICS.read_text())["pseudo"]
    assert list(figures) == ["miou", "split", "n", "tag_recall", "scales", "flip", "crf"]
    assert (figures["split"], figures["n"], figures["scales"], figures["flip"]) == ("train", 12, [1.0], False)
    assert 0 <= figures["miou"] <= 100 and 0 <= figures["tag_recall"] <= 100
    store = ScoreStore(Path("data/masks/scores"))
    records = read_dataset(Path("data/dataset")).training
    assert store.image_ids == tuple(record.image_id for record in records)
    assert sorted(path.stem for path in Path("data/masks/pseudo").iterdir()) == list(store.image_ids)
    for record in records:
        classes, probabilities = store.read(record.image_id)
        assert classes.tolist() == [0, *record.tags] and probabilities.shape[1:] == (record.height, record.width)
        mask = read_mask(Path(f"data/masks/pseudo/{record.image_id}.png"))
        assert np.array_equal(mask, classes[probabilities.argmax(axis=0)])
    assert f"pseudo {figures['miou']}" in capsys.readouterr().out
    assert not list(Path(".resume/generate_masks").iterdir())


def test_affinity_refines_the_scores_by_its_share() -> None:
    def scores(share: float, blocks: int) -> list[np.ndarray]:
        change_params(Path("params.yaml"), {"masks.affinity_blocks": blocks, "masks.affinity_share": share})
        generate_masks.main()
        store = ScoreStore(Path("data/masks/scores"))
        return [store.read(image_id)[1] for image_id in store.image_ids]

    plain, same, refined = scores(0.5, 0), scores(0.0, 3), scores(1.0, 3)
    for one, other, changed in zip(plain, same, refined, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-3)
        assert np.abs(changed - one).max() > 0.01


def test_affinity_of_more_blocks_than_the_encoder_has_is_named() -> None:
    change_params(Path("params.yaml"), {"masks.affinity_blocks": 6})
    with pytest.raises(WeakClipError, match=r"masks\.affinity_blocks is 6, and the encoder has 5 blocks"):
        generate_masks.main()


def test_a_killed_run_leaves_nothing_and_ends_with_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    generate_masks.main()
    undisturbed = outs()
    for folder in OUTS:
        shutil.rmtree(folder)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(generate_masks, "mask_quality", killed)
        generate_masks.main()
    assert not any(folder.exists() for folder in OUTS)
    monkeypatch.setattr(pseudo_masks, "fuse_probabilities", killed)  # the scores are there already
    generate_masks.main()
    assert outs() == undisturbed


def test_windows_and_scales_are_other_scores() -> None:
    generate_masks.main()
    first = outs()
    change_params(Path("params.yaml"), {"masks.scales": [0.5, 1.0], "masks.flip": True, "masks.stride": 64})
    generate_masks.main()
    assert outs()["data/masks/scores/shard-00000.h5"] != first["data/masks/scores/shard-00000.h5"]
    assert json.loads(METRICS.read_text())["pseudo"]["scales"] == [0.5, 1.0]


def test_a_network_of_another_encoder_is_refused() -> None:
    path = Path("data/weakclip/weakclip.json")
    card = unsealed(path.read_bytes())
    path.write_text(json.dumps(sealed(card | {"weights_hash": "0" * 64})))
    with pytest.raises(WeakClipError, match="data/weakclip was made with other weights of mini"):
        generate_masks.main()
    assert not Path("data/masks").exists()


def test_a_missing_network_is_named() -> None:
    shutil.rmtree("data/weakclip")
    with pytest.raises(WeakClipError, match=r"data/weakclip/weakclip\.\w+ is missing"):
        generate_masks.main()
