"""docs/experiments.md can be followed: each of its commands runs, in their order, and prints what stands there."""

import re
import time

import pytest

from tests.conftest import ROOT, Project
from tests.documents import commands_of, follow

DOCUMENT = "docs/experiments.md"
DEADLINE = 600.0  # seconds for the experiments in the queue


def printed(document: str, command: str, occurrence: int) -> list[str]:
    """The lines that a document has below a command."""
    text = (ROOT / document).read_text(encoding="utf-8")
    *_, after = text.split(f"\n$ {command}\n", occurrence + 1)
    return re.split(r"^(?:\$ |```)", after, maxsplit=1, flags=re.MULTILINE)[0].splitlines()


def without_figures(line: str) -> str:
    """A line without what is another at each run: times, hashes, figures, and the widths that follow from them."""
    line = re.sub(r"\d\d:\d\d [AP]M", "TIME", line)
    line = re.sub(r"\b[0-9a-f]{7}\b", "HASH", line)
    line = re.sub(r"-?\b\d[\d.,]*", "N", re.sub(r"─{2,}", "──", line))
    return re.sub(r"\b[kMG]?B\b", "B", " ".join(line.split()))


def wait_for_the_queue(project: Project) -> None:
    """Until nothing is queued, running or still held by a worker."""
    end = time.monotonic() + DEADLINE
    while re.search(r"Queued|Running|[1-9]\d* active", status := project.dvc("queue", "status")):
        if time.monotonic() > end:
            pytest.fail(f"the queue does not end:\n{status}")
        time.sleep(2)


@pytest.mark.slow
def test_every_command_prints_what_the_document_says(reproduced: Project) -> None:
    team = reproduced.folder.parent / "team"
    team.mkdir()
    places = {"/path/to": str(team)}
    seen: list[str] = []
    for command in commands_of(DOCUMENT):
        output = follow(reproduced, DOCUMENT, command, places)
        output = output.replace(str(team), "/path/to").replace(str(reproduced.folder), "/home/you/weakclip")
        found = {without_figures(line) for line in output.splitlines()}
        wanted = [without_figures(line) for line in printed(DOCUMENT, command, seen.count(command)) if line != "..."]
        assert [line for line in wanted if line not in found] == [], f"{command} printed\n{output}"
        seen.append(command)
        if command.startswith("dvc queue start"):
            wait_for_the_queue(reproduced)
    assert "lr: 0.0001" in (reproduced.folder / "params.yaml").read_text(encoding="utf-8")
    assert (reproduced.folder / "dvc_plots" / "index.html").is_file()
