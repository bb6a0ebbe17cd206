"""The commands of docs/storage.md do what it says, in a small repository with two versions of an output."""

import re
import shlex
from pathlib import Path

from tests.conftest import ROOT, Project

GUIDE = (ROOT / "docs" / "storage.md").read_text(encoding="utf-8")
STAGES = """stages:
  make:
    cmd: cp params.yaml out.txt
    deps: [params.yaml]
    outs: [out.txt]
"""


def blocks() -> list[list[str]]:
    """The commands of the guide, block by block."""
    return [block.strip().splitlines() for block in re.findall(r"```bash\n(.*?)```", GUIDE, re.DOTALL)]


def cached(folder: Path) -> int:
    """Files in a cache or a remote."""
    return sum(path.is_file() for path in (folder / "files").rglob("*"))


def test_the_guide_can_be_followed(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    disk = tmp_path / "disk"
    for folder in (project.folder, disk):
        folder.mkdir()
    project.run("git", "init", "--quiet")
    project.dvc("init", "--quiet")
    (project.folder / "dvc.yaml").write_text(STAGES, encoding="utf-8")
    for number in (1, 2, 3):
        (project.folder / "params.yaml").write_text(f"seed: {number}\n", encoding="utf-8")
        project.dvc("repro")
        if number != 2:  # the second version is in no commit
            project.commit()
    doctor, links, move, remote, look, clean = blocks()

    def follow(commands: list[str]) -> list[str]:
        words = [shlex.split(command.replace("/path/to/disk", str(disk))) for command in commands]
        return [project.dvc(*rest) if first == "dvc" else project.run(first, *rest).stdout for first, *rest in words]

    assert "Cache types" in follow(doctor)[0]
    follow(links)
    assert (project.folder / "out.txt").is_symlink()
    follow(move)
    assert (project.folder / "out.txt").resolve().is_relative_to(disk / "cache")
    assert cached(disk / "cache") == 3
    assert "in sync" in follow(remote)[-1]
    assert cached(disk / "remote") == 1
    assert [f"{count} object" in output for count, output in zip((2, 2), follow(look), strict=True)] == [True, True]
    assert cached(disk / "cache") == 3
    follow(clean)
    assert cached(disk / "cache") == 1
    assert (project.folder / "out.txt").read_text(encoding="utf-8") == "seed: 3\n"
