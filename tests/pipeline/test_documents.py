"""Every command in README.md and docs is run by a test, or named here with the reason why it is not."""

import ast
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.main import get_command

from stages.cli import app
from tests.conftest import ROOT, Project
from tests.documents import DOCUMENTS, commands_of, follow, meant
from weakclip.masks import read_mask, write_mask

MASK = "2007_000032.png"
README = "README.md"
REPRODUCE = "docs/reproduce.md"

WHOLE = {
    "docs/experiments.md": "tests/pipeline/test_experiments.py",
    "docs/own-data.md": "tests/pipeline/test_own_data.py",
    "docs/storage.md": "tests/pipeline/test_storage_guide.py",
}
"""Documents that a test of their own follows from the first command to the last."""

INSTALLS = "installs everything: `.ci/run` does, with `make check test`, in a bare checkout"
OWN_DATA = "docs/own-data.md has it too, and its test runs it; for VOC, COCO and folder-openai it needs a download and a GPU"
CHECKPOINT = "needs a file of the authors: tests/stages/test_import_checkpoint.py imports one that is made like it"
DOCKER = "needs Docker, a registry and a GPU: tests/test_container.py compares the Dockerfile with the project"
ABLATION = "takes hours: tests/pipeline/test_ablation.py runs a tiny table so"
LAUNCH = "tests/pipeline/test_repro.py: a stage so under DVC, as two processes"
SLURM = "needs a cluster; its syntax is checked"
NOT_RUN = {
    README: {
        "git clone <this repository> weakclip && cd weakclip": INSTALLS,
        "make repro": INSTALLS,
        "make test": INSTALLS,
        "weakclip init ../photos": OWN_DATA,
        "dvc repro": OWN_DATA,
        "weakclip export --format coco --out masks.json": OWN_DATA,
        "weakclip export-onnx --out deeplab.onnx": "tests/onnx_export: exported and compared with torch",
        "weakclip import-checkpoint iter_8000.pth --classes voc12 --out data/weakclip": CHECKPOINT,
    },
    "docs/method.md": {
        "python -m benchmarks.ablation --table benchmarks/ablation/techniques.yaml --seeds 3,4,5 --jobs 2": ABLATION,
    },
    "docs/reliability.md": dict.fromkeys(
        (
            "dvc queue kill NAME",
            "dvc queue remove NAME",
            "dvc exp run --queue --name NAME --set-param lr=3e-4",
            "dvc queue start --jobs 2",
        ),
        "tests/faults/test_queue.py",
    ),
    "docs/cluster.md": {
        "torchrun --standalone --nproc-per-node=2 -m stages.cache_features": "tests/pipeline/test_torchrun.py: all stages so",
        'export WEAKCLIP_LAUNCH="torchrun --standalone --nproc-per-node=4"': LAUNCH,
        "dvc repro": LAUNCH,
    },
    REPRODUCE: {
        "git clone <this repository> weakclip && cd weakclip && pip install -e .": INSTALLS,
        "dvc repro": "needs downloads and a GPU: none of VOC, COCO and CLIP's weights is at hand",
        "weakclip import-checkpoint train_74p03_iter_8000.pth --classes voc12 --out ../released/weakclip": CHECKPOINT,
        "weakclip import-checkpoint RETRAINED.pth --classes voc12 --out ../released/deeplab": CHECKPOINT,
    },
}


def reason(document: str, command: str) -> str | None:
    """Why a command is not run; None if it has to be."""
    if command.startswith("docker "):
        return DOCKER
    if command.startswith("#!") and "#SBATCH" in command:
        return SLURM
    return NOT_RUN.get(document, {}).get(command)


def followed() -> Iterator[tuple[str, str]]:
    """Document and command of every call of `follow` in the tests that spells out both; such a call runs all that are meant."""
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        texts = {
            target.id: node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "follow" and len(node.args) >= 3:
                words = [texts.get(ast.unparse(part), getattr(part, "value", None)) for part in node.args[1:3]]
                if all(isinstance(word, str) for word in words):
                    yield from ((words[0], command) for command in meant(*words))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_is_run_or_has_a_reason(document: str) -> None:
    if document in WHOLE:
        assert Path(document).name in (ROOT / WHOLE[document]).read_text(encoding="utf-8")
        return
    run = {command for of, command in followed() if of == document}
    commands = set(commands_of(document))
    assert [command for command in commands if command not in run and reason(document, command) is None] == []
    assert [command for command in commands if command in run and reason(document, command) is not None] == []


def test_reasons_are_of_commands_that_are_there() -> None:
    assert [(name, line) for name, lines in NOT_RUN.items() for line in lines if line not in commands_of(name)] == []
    elsewhere = [line for line, why in NOT_RUN[README].items() if why == OWN_DATA]
    assert set(elsewhere) <= set(commands_of("docs/own-data.md"))


def test_scripts_for_a_cluster_are_valid_bash(project: Project) -> None:
    scripts = [command for command in commands_of("docs/cluster.md") if command.startswith("#!")]
    assert len(scripts) == 2
    for script in scripts:
        project.run("bash", "-n", "-c", script)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_of_the_program_exist_with_their_options(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    spans = re.findall(r"`((?:weakclip|python -m stages\.\w+)(?: [^`\n]*)?)`", text) + commands_of(document)
    assert [span for span in spans if span.startswith("weakclip ") and not known(span)] == []
    modules = {name for span in spans for name in re.findall(r"python -m stages\.(\w+)", span)}
    assert [name for name in sorted(modules) if not (ROOT / "stages" / f"{name}.py").is_file()] == []


def known(span: str) -> bool:
    """Whether `weakclip command --option ...` names a command, and options that it has."""
    program = get_command(app)
    assert isinstance(program, typer.core.TyperGroup)
    _, word, *words = span.split()
    if word.startswith("--"):
        return any(word in parameter.opts for parameter in program.params)
    command = program.commands.get(word)
    while isinstance(command, typer.core.TyperGroup) and words:
        command = command.commands.get(words.pop(0))
    if command is None:
        return False
    options = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    return {word for word in words if word.startswith("--")} <= options


def contents(folder: Path) -> dict[str, bytes]:
    """The files of a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def places(tmp_path: Path) -> dict[str, str]:
    """What stands in the documents for folders and files of the reader, and tiny ones to put there."""
    voc = tmp_path / "VOCdevkit"
    lists = voc / "VOC2012" / "ImageSets" / "Segmentation"
    for folder in (lists, voc / "VOC2012" / "SegmentationClassAug", tmp_path / "seeds", tmp_path / "coco", tmp_path / "photos"):
        folder.mkdir(parents=True)
    for name in ("train", "trainaug"):
        (lists / f"{name}.txt").write_text("2007_000032\n", encoding="utf-8")
    mask = np.zeros((4, 6), np.uint8)
    mask[1:3, 2:5] = 1
    for folder in (voc / "VOC2012" / "SegmentationClassAug", tmp_path / "seeds"):
        write_mask(folder / MASK, mask)
    (tmp_path / "resnet38.params").write_bytes(b"weights")
    Image.new("RGB", (40, 30), "teal").save(tmp_path / "photos" / "sea.jpg")
    return {
        "/path/to/VOCdevkit": str(voc),
        "$VOC": str(voc / "VOC2012"),
        "/path/to/SegmentationClassAugPseudoMaskMCT": str(tmp_path / "seeds"),
        "/path/to/cocoPGTMCT": str(tmp_path / "seeds"),
        "cocoPGTMCT": str(tmp_path / "seeds"),
        "/path/to/coco": str(tmp_path / "coco"),
        "/path/to/folder": str(tmp_path / "photos"),
        "/path/to/ilsvrc-cls_rna-a1_cls1000_ep-0001.params": str(tmp_path / "resnet38.params"),
        "../more": str(tmp_path / "photos"),
        "../released": str(tmp_path / "released"),
    }


def test_presets_are_chosen_and_seeds_taken_over(project: Project, places: dict[str, str]) -> None:
    seeds = project.folder / "data" / "raw" / "seeds"
    assert follow(project, README, "weakclip preset ", places).count("`dvc repro` runs it") == 5
    follow(project, README, "weakclip import-masks ", places)
    assert read_mask(next(seeds.glob("*.png"))).max() == 1
    shutil.rmtree(seeds)
    assert follow(project, REPRODUCE, "weakclip preset ", places).count("`dvc repro` runs it") == 4
    follow(project, REPRODUCE, "weakclip import-masks /path/to/SegmentationClassAug", places)
    shutil.rmtree(seeds)
    follow(project, REPRODUCE, "weakclip import-masks /path/to/cocoPGTMCT", places)
    assert follow(project, REPRODUCE, "ls data/raw/seeds").strip() == "1"
    follow(project, REPRODUCE, "cp /path/to/ilsvrc", places)
    assert (project.folder / "data" / "raw" / "resnet38.params").read_bytes() == b"weights"


def test_masks_are_scored_exported_and_predicted(reproduced: Project, places: dict[str, str]) -> None:
    masks = reproduced.folder / "data" / "masks" / "refined"
    assert " 100.0" in follow(reproduced, README, "weakclip score ", {"DIR": f"{places['$VOC']}/SegmentationClassAug"})
    follow(reproduced, README, "weakclip export-masks ")
    exported = reproduced.folder / "released" / "pred_png"
    assert len(list(exported.glob("*.png"))) == len(list(masks.glob("*.png")))
    follow(reproduced, README, "weakclip predict ", places)
    assert (reproduced.folder / "predicted" / "masks" / "sea.png").is_file()


@pytest.mark.slow
def test_parts_are_compared_as_the_guide_to_the_paper_says(reproduced: Project, places: dict[str, str]) -> None:
    released = Path(places["../released"])
    shutil.copytree(reproduced.folder / "data" / "weakclip", released / "weakclip")
    follow(reproduced, REPRODUCE, "python -m stages.generate_masks ", places)
    follow(reproduced, REPRODUCE, "python -m stages.refine_masks ", places)
    own = reproduced.folder / "data" / "masks"
    for name in ("pseudo", "refined"):
        assert contents(released / name) == contents(own / name)
    for name in ("masks", "deeplab"):
        shutil.copytree({"masks": own / "refined", "deeplab": reproduced.folder / "data" / "deeplab"}[name], released / name)
    follow(reproduced, REPRODUCE, "python -m stages.retrain_deeplab ", places)
    assert contents(released / "retrained") == contents(released / "deeplab")
    follow(reproduced, REPRODUCE, "python -m stages.evaluate ", places)
    for name in ("evaluate", "evaluate_retrained"):
        assert (released / name / "report" / "index.html").is_file()
    follow(reproduced, REPRODUCE, "VOC=", places)
    truth = Path(places["$VOC"]) / "SegmentationClassAug"
    for folder in (released / "refined", reproduced.folder / "data" / "masks" / "refined"):
        shutil.copyfile(truth / MASK, folder / MASK)
    assert follow(reproduced, REPRODUCE, "weakclip score ", places).count(" 100.0") >= 3
