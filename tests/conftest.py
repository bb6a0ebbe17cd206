"""A scratch copy of the project in a Git and DVC repository of its own, with parameters that a test can afford."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import settings
from joblib.externals.loky import reusable_executor
from ruamel.yaml import YAML

# The same examples on every machine, however busy it is.
settings.register_profile("suite", deadline=None, derandomize=True)
settings.load_profile("suite")

ROOT = Path(__file__).parents[1]
COPIED = ("stages", "weakclip", "dvc.yaml", ".dvc/config", ".dvc/.gitignore", ".dvcignore", ".gitignore", "data/raw")

TINY: Mapping[str, object] = {
    "dataset.mini_train": 12,
    "dataset.mini_val": 6,
    "features.views": 1,
    "cam.iterations": 4,
    "cam.batch_size": 4,
    "weakclip.iterations": 4,
    "weakclip.batch_size": 2,
    "weakclip.warmup": 1,
    "weakclip.decoder_layers": 1,
    "weakclip.validate_every": 2,
    "weakclip.checkpoint_every": 2,
    "masks.scales": [1.0],
    "deeplab.iterations": 4,
    "deeplab.batch_size": 2,
    "deeplab.crop_size": 64,
    "deeplab.validate_every": 2,
    "deeplab.checkpoint_every": 2,
    "evaluate.gallery_size": 2,
}


@dataclass(frozen=True)
class Project:
    """A copy of the project; commands run in its folder, with this test's Python first on the path."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """The environment of its commands."""
        return {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": "",
            "WEAKCLIP_WORKERS": "1",
            "OMP_NUM_THREADS": "1",
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(self.folder.parent / "dvc-site"),
            "GIT_AUTHOR_NAME": "test",
            "GIT_AUTHOR_EMAIL": "test@example.org",
            "GIT_COMMITTER_NAME": "test",
            "GIT_COMMITTER_EMAIL": "test@example.org",
        }

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command and return what it printed; with check, a failure fails the test and shows it."""
        result = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False)
        if check and result.returncode != 0:
            pytest.fail(f"{' '.join(command)} exited with {result.returncode}\n{result.stdout}\n{result.stderr}")
        return result

    def dvc(self, *arguments: str) -> str:
        """Run DVC and return its standard output."""
        return self.run(sys.executable, "-m", "dvc", *arguments).stdout

    def commit(self) -> None:
        """Commit everything as it is."""
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--allow-empty", "--message", "state")

    def set(self, changes: Mapping[str, object]) -> None:
        """Change values of params.yaml, given by their dotted names."""
        change_params(self.folder / "params.yaml", changes)


def change_params(path: Path, changes: Mapping[str, object]) -> None:
    """Change values of a params.yaml in place, given by their dotted names."""
    yaml = YAML()
    values = yaml.load(path.read_text(encoding="utf-8"))
    for name, value in changes.items():
        *sections, key = name.split(".")
        place = values
        for section in sections:
            place = place[section]
        if key not in place:
            raise ValueError(f"expected a name of params.yaml, got {name}")
        place[key] = value
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(values, file)


def make_project(folder: Path, copied: Sequence[str] = COPIED) -> Project:
    """Copy the project to a new folder, make its parameters tiny, and commit it."""
    for name in copied:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, target)
    shutil.copyfile(ROOT / "weakclip" / "presets" / "mini.yaml", folder / "params.yaml")
    project = Project(folder)
    project.set(TINY)
    project.run("git", "init", "--quiet", "--initial-branch", "main")
    project.commit()
    return project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A fresh scratch copy of the project."""
    return make_project(tmp_path / "project")


@pytest.fixture(autouse=True)
def no_foreign_workers() -> Iterator[None]:
    """End joblib's worker processes after a test that used any: they stand in the folder of the test they were started by."""
    yield
    executor = reusable_executor._executor  # its public getter would make one where there is none
    if executor is not None:
        executor.shutdown(wait=True)


@pytest.fixture(scope="session")
def drawn_workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a drawn mini dataset, its features, true masks as seeds, and tiny parameters; tests work on copies."""
    from stages import cache_features, prepare_dataset  # here, for most tests need no torch

    folder = tmp_path_factory.mktemp("drawn")
    shutil.copyfile(ROOT / "weakclip" / "presets" / "mini.yaml", folder / "params.yaml")
    change_params(folder / "params.yaml", TINY)
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setenv("WEAKCLIP_WORKERS", "1")
        patch.setenv("WEAKCLIP_DEVICE", "cpu")
        prepare_dataset.main()
        cache_features.main()
        shutil.copytree("data/dataset/masks", "data/cam/seeds", ignore=shutil.ignore_patterns("val_*"))
    return folder


@pytest.fixture
def workspace(drawn_workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `drawn_workspace`, in which the test runs."""
    folder = tmp_path / "workspace"
    shutil.copytree(drawn_workspace, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("WEAKCLIP_WORKERS", "1")
    monkeypatch.setenv("WEAKCLIP_DEVICE", "cpu")
    return folder
