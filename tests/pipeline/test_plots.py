"""DVC draws every plot that `dvc.yaml` declares, and puts the pictures of two versions side by side."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from ruamel.yaml import YAML

from tests.conftest import ROOT, Project
from tests.pipeline.test_dvc_yaml import STAGES, paths
from weakclip.runlog import StepLog, write_rows

PLOTS: list[Any] = YAML(typ="safe", pure=True).load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["plots"]
CHARTS: dict[str, Any] = {title: plot for entry in PLOTS if isinstance(entry, dict) for title, plot in entry.items()}
PICTURES: list[str] = [entry for entry in PLOTS if isinstance(entry, str)]
PICTURE = "deeplab_val_00000.png"


@pytest.fixture(scope="module")
def two_versions(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A repository whose tags `one` and `two` hold different curves, tables and pictures, and the plots of the project."""
    folder = tmp_path_factory.mktemp("plots") / "repository"
    folder.mkdir()
    project = Project(folder)
    with (folder / "dvc.yaml").open("w", encoding="utf-8") as stages:
        YAML().dump({"plots": PLOTS}, stages)
    project.run("git", "init", "--quiet")
    project.dvc("init", "--quiet")
    for number, name in enumerate(("one", "two"), start=1):
        for plot in CHARTS.values():
            for path, column in plot["y"].items():
                file = folder / path
                file.parent.mkdir(parents=True, exist_ok=True)
                if file.suffix == ".tsv":
                    file.write_text(f"step\t{column}\n1\t{number}\n2\t{3 * number}\n", encoding="utf-8")
                else:
                    write_rows(file, [{plot["x"]: 10.0 * number, column: "cat"}, {plot["x"]: 20.0, column: "dog"}])
        for pictures in PICTURES:
            (folder / pictures).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4), (100 * number, 0, 0)).save(folder / pictures / PICTURE)
        project.commit()
        project.run("git", "tag", name)
    return project


def test_plots_are_of_outputs() -> None:
    outs = [out for stage in STAGES.values() for out in paths(stage["outs"])]
    named = [*PICTURES, *(path for plot in CHARTS.values() for path in plot["y"])]
    assert [path for path in named if not any(path == out or path.startswith(f"{out}/") for out in outs)] == []


def test_every_plot_is_drawn(two_versions: Project, tmp_path: Path) -> None:
    result = two_versions.run("python", "-m", "dvc", "plots", "show", "--out", str(tmp_path / "shown"))
    assert "failed" not in result.stderr
    page = (tmp_path / "shown/index.html").read_text(encoding="utf-8")
    assert [title for title in CHARTS if title not in page] == []
    assert [path.name for path in (tmp_path / "shown/static").iterdir()] == [f"workspace_{flat(PICTURES[0])}_{PICTURE}"]


def test_pictures_of_two_versions_stand_side_by_side(two_versions: Project, tmp_path: Path) -> None:
    two_versions.dvc("plots", "diff", "one", "two", "--out", str(tmp_path / "diff"))
    page = (tmp_path / "diff/index.html").read_text(encoding="utf-8")
    reds = []
    for name in ("one", "two"):
        file = f"static/{name}_{flat(PICTURES[0])}_{PICTURE}"
        assert file in page
        with Image.open(tmp_path / "diff" / file) as picture:
            reds.append(picture.getpixel((0, 0)))
    assert reds == [(100, 0, 0), (200, 0, 0)]


def test_curves_of_a_training_that_runs_are_drawn(two_versions: Project, tmp_path: Path) -> None:
    log = StepLog(tmp_path / "plots", shown=two_versions.folder / "data/results/train_weakclip/plots")
    for step in range(1, 4):
        log.log(step, {"seeding_loss": 0.25 * step})
    (chart,) = json.loads(two_versions.dvc("plots", "show", "--json"))["data"]["Losses by step"]
    log.close()
    two_versions.run("git", "checkout", "--quiet", "--", "data")
    rows = chart["content"]["data"]["values"]
    drawn = {row["step"]: row["seeding_loss"] for row in rows if "seeding_loss" in row}
    assert drawn == {"1": "0.25", "2": "0.5", "3": "0.75"}


def flat(path: str) -> str:
    """A path as DVC makes a file name of it."""
    return path.replace("/", "_")
