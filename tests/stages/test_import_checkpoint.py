"""A checkpoint of the released code's kind, small and filled at random, through the command."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from stages import import_checkpoint
from stages.cli import app
from tests.deeplab.slim_resnet38 import make_slim
from tests.released import NAMES, fresh_network, released_names
from weakclip.datasets.index import ClassList
from weakclip.deeplab.deeplabv1 import DeepLabV1
from weakclip.deeplab.prediction import load_deeplab
from weakclip.errors import WeakClipError
from weakclip.inference import Fusion, fuse_probabilities
from weakclip.network.trained import load_weakclip
from weakclip.pseudo_masks import predictor
from weakclip.released.names import our_name


@pytest.fixture(scope="module")
def released() -> dict[str, Tensor]:
    """A state dictionary under released names; its tensors are those of a fresh network."""
    torch.manual_seed(0)
    own = fresh_network().state_dict()
    state = {}
    for name in released_names():
        ours = our_name(name, 2)
        twin = our_name(name.replace(".0.", ".1.", 1), 2) if ours is None else ours
        state[name] = own[twin][None] if name == "contexts" else own[twin]
    return state


def save(path: Path, state: dict[str, Tensor], **meta: object) -> Path:
    torch.save({"meta": {"CLASSES": ("background", *NAMES), "iter": 8000, **meta}, "state_dict": state}, path)
    return path


def run(path: Path) -> str:
    (path.parent / "classes.txt").write_text("\n".join(NAMES))
    arguments = [
        "import-checkpoint",
        str(path),
        "--classes",
        str(path.parent / "classes.txt"),
        "--out",
        str(path.parent / "out"),
    ]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    return result.output


def test_a_checkpoint_becomes_a_network_that_predicts(released: dict[str, Tensor], tmp_path: Path) -> None:
    output = run(save(tmp_path / "iter_8000.pth", released))
    unused = [name for name in released if "decoder.0." in name]
    assert len(unused) == 40 and f"holds {len(released) - 40} of {len(released)} tensors" in " ".join(output.split())
    assert all(name in output for name in unused)
    trained = load_weakclip(tmp_path / "out")
    assert (trained.classes.names, trained.image_size, trained.multiple) == (NAMES, 64, 1)
    assert json.loads((tmp_path / "out" / "weakclip.json").read_text())["source"] == {"file": "iter_8000.pth", "iter": 8000}
    assert torch.equal(trained.model.text_encoder.contexts, released["contexts"][0])
    photo = np.random.default_rng(0).integers(0, 256, (50, 70, 3)).astype(np.uint8)
    fusion = Fusion(
        scales=[1.0],
        flip=True,
        base_size=(128, 64),
        window=64,
        stride=40,
        patch=trained.encoder.patch,
        multiple=trained.multiple,
        resize=trained.resize,
    )
    (probabilities,) = fuse_probabilities(predictor(trained.model, trained.encoder), [photo], 3, fusion)
    assert probabilities.shape == (3, 50, 70) and np.allclose(probabilities.sum(axis=0), 1, atol=1e-5)


def changed(state: dict[str, Tensor], **tensors: Tensor | None) -> dict[str, Tensor]:
    new = {name.replace("__", "."): value for name, value in tensors.items()}
    return {name: value for name, value in (state | new).items() if value is not None}


def test_misshapen_missing_and_unknown_tensors_are_named(released: dict[str, Tensor], tmp_path: Path) -> None:
    with pytest.raises(WeakClipError, match=r"gamma: expected \(8,\), got \(9,\)"):
        run(save(tmp_path / "a.pth", changed(released, gamma=torch.zeros(9))))
    with pytest.raises(WeakClipError, match=r"beta is missing"):
        run(save(tmp_path / "b.pth", changed(released, beta=None)))
    with pytest.raises(WeakClipError, match=r"holds foo\.bar, which"):
        run(save(tmp_path / "c.pth", changed(released, foo__bar=torch.zeros(1))))
    with pytest.raises(WeakClipError, match=r"is no checkpoint of WeakCLIP: 'backbone.conv1.weight' is missing"):
        run(save(tmp_path / "d.pth", changed(released, backbone__conv1__weight=None)))
    assert not (tmp_path / "out").exists()


def test_other_classes_are_refused(released: dict[str, Tensor], tmp_path: Path) -> None:
    with pytest.raises(WeakClipError, match="dog is cat in the list"):
        run(save(tmp_path / "a.pth", released, CLASSES=("background", "dog", "cat")))
    with pytest.raises(WeakClipError, match="has 3 classes, the list has 21"):
        import_checkpoint.main(tmp_path / "a.pth", "voc12", tmp_path / "out")
    with pytest.raises(WeakClipError, match="neither a list"):
        import_checkpoint.main(tmp_path / "a.pth", "voc", tmp_path / "out")


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("touched"),)


def test_files_that_could_run_code_or_are_broken_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {}, "meta": Evil()}, "evil.pth")
    Path("plain.pth").write_bytes(pickle.dumps({"state_dict": {}}))
    Path("broken.pth").write_bytes(b"PK\x03\x04 and no more")
    torch.save([1, 2], "list.pth")
    torch.save({"conv.weight": torch.zeros(1)}, "bare.pth")
    for name, problem in (
        ("evil", "holds more than tensors"),
        ("broken", "cannot be read"),
        ("list", "holds no state_dict"),
        ("bare", "holds no state_dict"),
        ("missing", "is missing"),
        ("plain", ""),
    ):
        with pytest.raises(WeakClipError, match=rf"{name}\.pth .*{problem}"):
            import_checkpoint.main(Path(f"{name}.pth"), "voc12", Path("out"))
    assert not Path("touched").exists() and not Path("out").exists()


def test_classes_of_the_data_set_are_found_by_name(released: dict[str, Tensor], tmp_path: Path) -> None:
    run(save(tmp_path / "iter_8000.pth", released))
    trained = load_weakclip(tmp_path / "out")

    def classes(*names: str) -> ClassList:
        return ClassList(names=names, synonyms=((),) * len(names), background_words=())

    assert trained.rows_of(classes("cat", "dog")) is None
    assert trained.rows_of(classes("dog")) == [0, 2]
    with pytest.raises(WeakClipError, match="does not know horse"):
        trained.rows_of(classes("cat", "horse"))


def test_coco_has_ninety_slots() -> None:
    names = import_checkpoint.names_of("coco14").names
    assert len(set(names)) == len(names) == 90
    assert (names[0], names[11], names[89]) == ("person", "street sign", "toothbrush")


def test_a_deeplab_checkpoint_goes_where_evaluate_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_slim(monkeypatch)
    state = DeepLabV1(len(NAMES) + 1).state_dict()
    torch.save(state, tmp_path / "deeplab.pth")
    output = " ".join(run(tmp_path / "deeplab.pth").split())
    assert f"holds {len(state)} of {len(state)} tensors" in output and "stages.evaluate --deeplab" in output
    assert load_deeplab(tmp_path / "out").card["classes"] == ["background", *NAMES]
