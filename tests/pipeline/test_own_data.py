"""The commands of docs/own-data.md, in a project with tiny parameters; they print what stands there."""

import json
import re

import pytest

from tests.conftest import ROOT, TINY, Project
from tests.pipeline.test_experiments import printed, without_figures

TEXT = (ROOT / "docs" / "own-data.md").read_text(encoding="utf-8")
DRAWING, PREDICTING = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
COMMANDS = re.findall(r"^\$ (.*)$", TEXT, re.MULTILINE)
DOCUMENT = "docs/own-data.md"


def said(project: Project, command: str) -> str:
    """What the command prints in the project, whose code it runs."""
    return project.run("bash", "-c", command.replace("weakclip ", "python -m stages.cli ", 1)).stdout


def test_init_says_what_the_document_shows(project: Project) -> None:
    project.run("python", "-c", DRAWING)
    printed_now = said(project, COMMANDS[0]).replace(str(project.folder.parent), "/home/you")
    assert printed_now.splitlines() == printed(DOCUMENT, COMMANDS[0], 0)


@pytest.mark.slow
def test_from_a_folder_of_photos_to_masks_in_other_formats(project: Project) -> None:
    project.run("python", "-c", DRAWING.replace("range(150)", "range(20)"))
    init, repro, export, *others = COMMANDS
    assert "tags from ../photos" in said(project, init)
    project.set({name: value for name, value in TINY.items() if not name.startswith("dataset.")})
    for command in (repro, export):
        found = {without_figures(line) for line in said(project, command).splitlines()}
        wanted = [without_figures(line) for line in printed(DOCUMENT, command, 0) if line != "..."]
        assert [line for line in wanted if line not in found] == [], found
    for command in others:
        said(project, command.replace("boat", "bottle"))
    exported = json.loads((project.folder / "masks.json").read_text())
    assert len(exported["images"]) >= 5 and {row["name"] for row in exported["categories"]} >= {"bottle"}
    assert len(list((project.folder / "with_tags" / "masks").glob("*.png"))) >= 1
    predicted = project.run("python", "-c", PREDICTING.replace("boat", "bottle")).stdout
    assert len(predicted.splitlines()) == len(list((project.folder / "predicted" / "masks").glob("*.png")))
