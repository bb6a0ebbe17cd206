"""How commands fail, end and choose presets; real processes where the exit code is the point."""

import errno
import os
import pickle
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from stages import cli
from stages.cli import app
from tests.conftest import ROOT
from weakclip.errors import WeakClipError
from weakclip.workers import workers


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def run_code(folder: Path, body: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command made of the function body as a stage runs."""
    script = folder / "command.py"
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    imports = "from stages._cli import run\nfrom weakclip.errors import WeakClipError\n"
    script.write_text(f"{imports}def main() -> None:\n{lines}run(main)\n")
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run([sys.executable, script], env=variables, capture_output=True, text=True, check=False)


def test_users_mistake_is_two_lines_and_code_1(tmp_path: Path) -> None:
    result = run_code(tmp_path, 'raise WeakClipError("a is missing", "make a")')
    assert (result.returncode, result.stdout, result.stderr) == (1, "", "error: a is missing\nhint: make a\n")


def test_full_disk_is_two_lines(tmp_path: Path) -> None:
    result = run_code(tmp_path, 'import errno\nraise OSError(errno.ENOSPC, "No space left on device", "data/features")')
    assert result.returncode == 1
    assert [line.split(":")[0] for line in result.stderr.splitlines()] == ["error", "hint"]
    assert "data/features" in result.stderr


@pytest.mark.parametrize("name", ["file", "file/folder"])
def test_a_file_where_a_folder_is_wanted_is_two_lines(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    result = run_code(tmp_path, f'from pathlib import Path\nPath("{tmp_path}", "{name}").mkdir(parents=True, exist_ok=True)')
    assert result.returncode == 1
    assert [line.split(":")[0] for line in result.stderr.splitlines()] == ["error", "hint"]
    assert str(tmp_path / "file") in result.stderr and "move the file" in result.stderr


def test_names_that_the_terminal_cannot_write_are_spelled(tmp_path: Path) -> None:
    body = 'from weakclip.progress import say\nsay("k\\xe4se \\udce4")'
    result = run_code(tmp_path, body, PYTHONIOENCODING="ascii:strict")
    assert (result.returncode, result.stdout) == (0, "k\\xe4se \\udce4\n")


def test_unexpected_error_keeps_a_plain_traceback(tmp_path: Path) -> None:
    result = run_code(tmp_path, 'raise ValueError("expected 3, got 4")')
    assert result.returncode == 1
    assert result.stderr.startswith("Traceback (most recent call last):")
    assert result.stderr.endswith("ValueError: expected 3, got 4\n")


def test_the_version_is_that_of_the_project() -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    result = CliRunner().invoke(app, ["--version"], catch_exceptions=False)
    assert (result.exit_code, result.output) == (0, f"weakclip {wanted}\n")
    assert f"version: {wanted}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"({wanted})" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_success_is_code_0(tmp_path: Path) -> None:
    assert run_code(tmp_path, "print(1)").returncode == 0


def test_libraries_are_silent_unless_asked(tmp_path: Path) -> None:
    body = 'import logging\nlogging.warning("root")\nlogging.getLogger("open_clip").warning("library")'
    assert run_code(tmp_path, body).stderr == ""
    assert "library" in run_code(tmp_path, body, WEAKCLIP_LOG="debug").stderr


@pytest.mark.parametrize("times", [1, 2])
def test_sigterm_unwinds_and_is_code_143(times: int, tmp_path: Path) -> None:
    script = tmp_path / "command.py"
    script.write_text(
        "import time\nfrom pathlib import Path\nfrom stages._cli import run\n"
        "def main() -> None:\n    try:\n        Path('ready').touch()\n        time.sleep(60)\n"
        "    finally:\n        Path('closing').touch()\n        time.sleep(0.5)\n        Path('closed').touch()\nrun(main)\n"
    )
    with subprocess.Popen(
        [sys.executable, script], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 30
        for mark in ("ready", "closing")[:times]:
            while not (tmp_path / mark).exists() and time.monotonic() < deadline:
                time.sleep(0.02)
            process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (143, "")
    assert (tmp_path / "closed").exists()


def test_error_survives_the_way_back_from_a_worker_process() -> None:
    error = pickle.loads(pickle.dumps(WeakClipError("a is missing", "make a")))
    assert (error.problem, error.hint, str(error)) == ("a is missing", "make a", "a is missing")


def test_workers_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEAKCLIP_WORKERS", "3")
    assert workers() == 3
    monkeypatch.delenv("WEAKCLIP_WORKERS")
    assert workers() >= 1


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", "²"])
def test_workers_refuse_what_is_no_number_of_processes(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("WEAKCLIP_WORKERS", value)
    with pytest.raises(WeakClipError, match="WEAKCLIP_WORKERS"):
        workers()


@pytest.mark.parametrize("name", ["mini", "folder", "folder-openai", "voc12", "coco14"])
def test_preset_writes_the_complete_file(here: Path, name: str) -> None:
    assert CliRunner().invoke(app, ["preset", name], catch_exceptions=False).exit_code == 0
    assert (here / "params.yaml").read_bytes() == (ROOT / "weakclip" / "presets" / f"{name}.yaml").read_bytes()
    assert not (here / "params.yaml.bak").exists()


def test_preset_keeps_a_changed_file_and_says_so(here: Path) -> None:
    (here / "params.yaml").write_text("lr: 1\n")
    result = CliRunner().invoke(app, ["preset", "mini"], catch_exceptions=False)
    assert "params.yaml.bak" in result.output
    assert (here / "params.yaml.bak").read_text() == "lr: 1\n"
    CliRunner().invoke(app, ["preset", "mini"], catch_exceptions=False)
    assert (here / "params.yaml.bak").read_text() == "lr: 1\n"


def test_preset_keeps_the_former_file_when_the_disk_is_full(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "params.yaml").write_bytes(b"mine: k\xe4se")

    def full(self: Path, *_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for _ in range(2):  # a second attempt must not put half a file in the place of the former one
        with monkeypatch.context() as patch:
            patch.setattr(Path, "open", full)
            patch.setattr(Path, "write_text", full)
            patch.setattr(cli, "read_preset", lambda *_: "new")
            assert CliRunner().invoke(app, ["preset", "mini"]).exit_code
    assert CliRunner().invoke(app, ["preset", "mini"]).exit_code == 0
    assert (here / "params.yaml.bak").read_bytes() == b"mine: k\xe4se"


def test_preset_of_the_small_networks_says_that_they_are_no_match_for_photos(here: Path) -> None:
    result = CliRunner().invoke(app, ["preset", "folder"], catch_exceptions=False)
    assert "expect poor masks" in result.output
    assert "weakclip preset folder-openai" in result.output


@pytest.mark.parametrize("name", ["voc12", "coco14"])
def test_published_recipe_writes_its_own_file_and_says_what_it_needs(here: Path, name: str) -> None:
    result = CliRunner().invoke(app, ["preset", name, "--recipe", "published"], catch_exceptions=False)
    assert result.exit_code == 0
    assert (here / "params.yaml").read_bytes() == (ROOT / "weakclip" / "presets" / "published" / f"{name}.yaml").read_bytes()
    assert "published" in result.output and "docs/reproduce.md" in result.output


@pytest.mark.parametrize("name", ["mini", "voc12", "coco14"])
def test_best_recipe_writes_its_own_file_and_says_where_it_is_described(here: Path, name: str) -> None:
    result = CliRunner().invoke(app, ["preset", name, "--recipe", "best"], catch_exceptions=False)
    assert result.exit_code == 0 and "docs/method.md" in result.output
    assert (here / "params.yaml").read_bytes() == (ROOT / "weakclip" / "presets" / "best" / f"{name}.yaml").read_bytes()


@pytest.mark.parametrize("name", ["mini", "voc12"])
def test_recipe_repaired_is_what_every_preset_is_without_one(here: Path, name: str) -> None:
    assert CliRunner().invoke(app, ["preset", name, "--recipe", "repaired"], catch_exceptions=False).exit_code == 0
    assert (here / "params.yaml").read_bytes() == (ROOT / "weakclip" / "presets" / f"{name}.yaml").read_bytes()


@pytest.mark.parametrize("name", ["mini", "folder", "folder-openai"])
def test_a_preset_without_a_recipe_is_refused_before_anything_is_written(here: Path, photos: Path, name: str) -> None:
    with pytest.raises(WeakClipError) as caught:
        command = ["preset", name, "--recipe", "published", "--root", str(photos)]
        CliRunner().invoke(app, command, catch_exceptions=False)
    assert caught.value.problem == f"the preset {name} has no recipe published"
    assert caught.value.hint == "leave --recipe out; published is for coco14 and voc12"
    assert list(here.iterdir()) == []


def test_unknown_recipe_brings_the_known_ones(here: Path) -> None:
    with pytest.raises(WeakClipError) as caught:
        cli.read_preset("voc12", "publised")
    assert caught.value.problem == "'publised' is not a recipe"
    assert caught.value.hint == "did you mean published? there are: repaired, best, published"


def test_unknown_preset_brings_the_known_ones(here: Path) -> None:
    with pytest.raises(WeakClipError) as caught:
        cli.read_preset("voc")
    assert caught.value.hint == "did you mean voc12? there are: coco14, folder, folder-openai, mini, voc12"


@pytest.fixture
def photos(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "photos of mine"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"a")
    yield folder


def test_root_becomes_an_absolute_link_in_place_of_an_older_one(here: Path, photos: Path) -> None:
    (here / "data" / "raw").mkdir(parents=True)
    (here / "data" / "raw" / "photos").symlink_to("local")
    result = CliRunner().invoke(app, ["preset", "folder", "--root", f"../{photos.name}"], catch_exceptions=False)
    assert result.exit_code == 0
    assert (here / "data" / "raw" / "photos").readlink() == photos
    assert [path.name for path in (here / "data" / "raw").iterdir()] == ["photos"]


def test_missing_root_changes_nothing(here: Path) -> None:
    with pytest.raises(WeakClipError, match="nowhere"):
        CliRunner().invoke(app, ["preset", "folder", "--root", "nowhere"], catch_exceptions=False)
    assert list(here.iterdir()) == []


def test_root_around_the_project_is_refused(here: Path) -> None:
    with pytest.raises(WeakClipError, match="holds this project"):
        cli.link_photos(Path(".."))


def test_folder_of_photos_is_never_replaced_by_a_link(here: Path, photos: Path) -> None:
    (here / "data" / "raw" / "photos").mkdir(parents=True)
    with pytest.raises(WeakClipError, match="folder of its own"):
        cli.link_photos(photos)


def test_program_prints_two_lines_and_nothing_else(here: Path) -> None:
    command = [sys.executable, "-m", "stages.cli", "preset", "mini", "--root", "nowhere"]
    result = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert [line.split(":")[0] for line in result.stderr.splitlines()] == ["error", "hint"]


def test_program_starts_without_torch() -> None:
    code = "import sys, stages.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
