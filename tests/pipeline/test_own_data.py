"""The commands of docs/own-data.md, in a project with tiny parameters."""

import json
import re

import pytest

from tests.conftest import ROOT, TINY, Project

TEXT = (ROOT / "docs" / "own-data.md").read_text(encoding="utf-8")
DRAWING, PREDICTING = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
COMMANDS = re.findall(r"^\$ (.*)$", TEXT, re.MULTILINE)


@pytest.mark.slow
def test_from_a_folder_of_photos_to_masks_in_other_formats(project: Project) -> None:
    project.run("python", "-c", DRAWING.replace("range(150)", "range(20)"))
    init, repro, *others = [command.replace("weakclip ", "python -m stages.cli ", 1) for command in COMMANDS]
    assert "tags from ../photos" in project.run("bash", "-c", init).stdout
    project.set({name: value for name, value in TINY.items() if not name.startswith("dataset.")})
    project.run("bash", "-c", repro.replace("dvc", "python -m dvc", 1))
    for command in others:
        project.run("bash", "-c", command.replace("boat", "bottle"))
    exported = json.loads((project.folder / "masks.json").read_text())
    assert len(exported["images"]) >= 5 and {row["name"] for row in exported["categories"]} >= {"bottle"}
    assert len(list((project.folder / "with_tags" / "masks").glob("*.png"))) >= 1
    said = project.run("python", "-c", PREDICTING.replace("boat", "bottle")).stdout
    assert len(said.splitlines()) == len(list((project.folder / "predicted" / "masks").glob("*.png")))
