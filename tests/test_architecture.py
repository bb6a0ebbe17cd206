"""docs/architecture.md says what is so: pictures, tables and files; and its examples do what they are there for."""

import ast
import re
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from stages import train_cam, train_weakclip
from tests.conftest import ROOT, Project, change_params
from weakclip import adaptation
from weakclip.clip.image_encoder import ImageEncoder
from weakclip.clip.model import load_clip
from weakclip.clip.prompts import background_phrases
from weakclip.datasets import mini, voc12
from weakclip.datasets.index import read_dataset, write_dataset
from weakclip.deeplab import deeplabv3plus
from weakclip.deeplab.examples import with_true_masks
from weakclip.deeplab.recipe import Retraining
from weakclip.deeplab.retraining import retrain
from weakclip.network.weakclip import WeakClip, WeakClipSizes, build_weakclip
from weakclip.params import load
from weakclip.runlog import StepLog, read_metrics

TEXT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
DAG, NETWORK = re.findall(r"^```mermaid\n.*?^```$", TEXT, re.DOTALL | re.MULTILINE)
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
BY_NAME, SIMILARITY, ENTROPY, BACKBONE, PLAIN = EXAMPLES
HEIGHT, WIDTH, BATCH = 6, 4, 2  # of the token grid; images in the batch


def run(example: str, name: str = "example") -> dict[str, Any]:
    """What an example defines."""
    module = types.ModuleType(name)
    exec(compile(example, f"docs/architecture.md: {name}", "exec"), module.__dict__)
    return module.__dict__


def test_dag_is_that_of_dvc(project: Project) -> None:
    assert project.dvc("dag", "--md").strip() == DAG


def test_files_and_names_of_the_page_are_there() -> None:
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", TEXT, flags=re.DOTALL | re.MULTILINE))
    files = {span for span in spans if re.fullmatch(r"(weakclip|stages|tests)/[\w/]+\.py", span)}
    assert len(files) > 20
    assert [name for name in sorted(files) if not (ROOT / name).is_file()] == []
    places = re.findall(r"`(\w+)` (?:of|in) `((?:weakclip|stages)/[\w/]+\.py)`", TEXT)
    assert len(places) >= 5
    for name, file in places:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        bound = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        assert name in bound | {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}, name


@dataclass(frozen=True)
class Built:
    """A network with the sizes of the preset mini, its encoder, and what the letters of the picture stand for."""

    network: WeakClip
    encoder: ImageEncoder
    sizes: dict[str, int]


@pytest.fixture(scope="module")
def built() -> Built:
    p = load(ROOT / "weakclip" / "presets" / "mini.yaml")
    clip = load_clip("mini", "mini")
    sizes = WeakClipSizes(**p.weakclip.model_dump(include=set(WeakClipSizes.__dataclass_fields__)))
    network = build_weakclip(
        clip, class_names=mini.CLASS_NAMES, synonyms=((),) * 10, background_words=mini.BACKGROUND_WORDS, sizes=sizes
    )
    values = {
        "B": BATCH, "p": clip.patch, "h": HEIGHT, "w": WIDTH, "C": clip.width, "E": clip.embedding, "D": sizes.channels,
        "K": 1 + len(mini.CLASS_NAMES), "T": len(background_phrases(mini.BACKGROUND_WORDS)) + len(mini.CLASS_NAMES),
    }  # fmt: skip
    return Built(network.eval(), ImageEncoder(clip, p.clip.blocks), values)


def drawn_shapes(sizes: dict[str, int]) -> dict[str, list[tuple[int, ...]]]:
    """The shapes in the picture, by the names of its nodes, with numbers for its letters."""
    nodes = re.findall(r'(\w+)\["([^"]*)"\]', NETWORK)
    found = {}
    for name, label in nodes:
        shapes = re.findall(r"\(((?:[A-Z][^()]*)?)\)", label)
        found[name] = [
            tuple(int(eval(side.replace("·", "*"), {}, dict(sizes))) for side in shape.split(","))  # of our own document
            for shape in shapes
        ]
    return found


@torch.inference_mode()
def test_picture_of_the_network_has_its_shapes(built: Built) -> None:
    network, taken = built.network, {}
    for name in ("projection", "text_encoder", "co_attention", "pyramid", "neck"):
        getattr(network, name).register_forward_hook(
            lambda module, given, result, name=name: taken.update({name: result, f"into {name}": given})
        )
    photos = torch.zeros(BATCH, 3, built.encoder.patch * HEIGHT, built.encoder.patch * WIDTH)
    tokens = built.encoder(photos)
    logits, scores = network(tokens, HEIGHT, WIDTH)
    assert len({block.shape for block in tokens}) == 1
    real = {
        "photos": [photos], "tokens": tokens[:1], "visual": [taken["projection"]], "texts": [taken["text_encoder"]],
        "attended_texts": [taken["co_attention"][0]], "attended_visual": [taken["co_attention"][1]], "scores": [scores],
        "pyramid": taken["pyramid"], "guided": taken["into neck"][0], "neck": taken["neck"], "logits": [logits],
        "phrases": [],
    }  # fmt: skip
    assert drawn_shapes(built.sizes) == {name: [tuple(tensor.shape) for tensor in tensors] for name, tensors in real.items()}


def test_table_of_sizes_is_that_of_the_presets(built: Built) -> None:
    rows = re.findall(r"^\| ([\w, ]+) \| [^|]+ \| (\d+) \| (\d+) \|$", TEXT, re.MULTILINE)
    table = {letters: (int(small), int(large)) for letters, small, large in rows}
    p, q = (load(ROOT / "weakclip" / "presets" / f"{name}.yaml") for name in ("mini", "voc12"))
    config = open_clip.get_model_config(q.clip.model)
    vision, classes = config["vision_cfg"], voc12.CLASSES
    size = built.sizes
    assert table == {
        "p": (size["p"], vision["patch_size"]),
        "h, w": (p.clip.image_size // size["p"], q.clip.image_size // vision["patch_size"]),
        "C": (size["C"], vision["width"]),
        "E": (size["E"], config["embed_dim"]),
        "D": (size["D"], q.weakclip.channels),
        "K": (size["K"], classes.num_classes),
        "T": (size["T"], len(background_phrases(classes.background_words)) + len(classes.names)),
    }


def test_dataset_example_reads_photos_by_their_names(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(11):
        Image.new("RGB", (16, 12), (20 * number, 0, 0)).save(
            tmp_path / "photos" / f"{['cat', 'dog'][number % 2]}_{number:02d}.jpg"
        )
    collection = run(BY_NAME)["read_by_name"](tmp_path, on_error="stop")
    write_dataset(collection.dataset, tmp_path / "dataset")
    read = read_dataset(tmp_path / "dataset")
    assert read.classes.names == ("cat", "dog")
    assert [(record.image_id, record.tags) for record in read.val] == [("dog_07", (2,))]
    assert len(read.training) == 10


def test_cam_example_makes_seeds_that_the_stage_imports(workspace: Path) -> None:
    (workspace / "data" / "raw").mkdir()
    run(SIMILARITY)
    change_params(workspace / "params.yaml", {"cam.source": "import", "cam.import_folder": "data/raw/seeds"})
    train_cam.main()
    seed = read_metrics(workspace / "data/results/train_cam/metrics.json", "train_cam")["seed"]
    assert isinstance(seed, dict) and seed["source"] == "import" and seed["miou"] > 40  # background alone has 8


def test_loss_example_is_one_of_the_training_with_the_line_that_is_named(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entropy_loss = run(ENTROPY)["entropy_loss"]
    assert float(entropy_loss(torch.full((2, 4, 3, 3), 0.25))) == pytest.approx(np.log(4))
    (line,) = re.findall(r'`(losses\["entropy_loss"\][^`]*)`', TEXT)
    source = (ROOT / "weakclip" / "objective.py").read_text(encoding="utf-8")
    assert source.count("    return losses\n") == 1 and source.count("    boundary_floor: float") == 1
    source = source.replace("    return losses\n", f"    {line}\n    return losses\n")
    source = source.replace("    boundary_floor: float", "    entropy_weight: float = 0.1\n    boundary_floor: float")
    changed = types.ModuleType("changed_objective")
    monkeypatch.setitem(sys.modules, "changed_objective", changed)  # where dataclasses look their annotations up
    exec(compile(source, "objective.py", "exec"), changed.__dict__)
    changed.__dict__["entropy_loss"] = entropy_loss
    monkeypatch.setattr(adaptation, "add_gradients", changed.add_gradients)
    own = train_weakclip.objective
    monkeypatch.setattr(train_weakclip, "objective", lambda p: changed.Objective(**vars(own(p))))
    train_weakclip.main()
    curve = (workspace / "data/results/train_weakclip/plots/metrics/entropy_loss.tsv").read_text(encoding="utf-8")
    values = [float(row.split("\t")[1]) for row in curve.splitlines()[1:]]
    assert values and all(0 < value <= 0.1 * np.log(11) + 1e-6 for value in values)


@pytest.fixture
def own_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Models that a test adds to open_clip are gone after it."""
    configs = open_clip.factory._MODEL_CONFIGS
    paths, before = open_clip.factory._MODEL_CONFIG_PATHS, dict(configs)
    count = len(paths)
    monkeypatch.chdir(tmp_path)
    yield
    del paths[count:]
    configs.clear()
    configs.update(before)


def test_backbone_example_gives_logits(own_models: None) -> None:
    made = run(BACKBONE)
    assert made["logits"].shape == (2, 3, 24, 16) and made["scores"].shape == (2, 3, 6, 4)
    assert made["logits"].isfinite().all()


def test_deeplab_example_is_trained(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deeplabv3plus, "build", run(PLAIN)["build"])
    p = load(workspace / "params.yaml").deeplab
    settings = Retraining(**p.model_dump(exclude={"masks"}))
    index = read_dataset(Path("data/dataset"))
    log = StepLog(workspace / "slot" / "plots")
    examples, validation = with_true_masks(index.training), with_true_masks(index.val)
    folder, out = workspace / "slot", workspace / "slot" / "deeplab"
    figures = retrain(settings, examples, validation, index.classes, seed=0, folder=folder, out=out, log=log)
    log.close()
    assert 0 <= figures["val_miou"] <= 100
    assert (out / "deeplab.safetensors").is_file()
