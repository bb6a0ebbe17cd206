"""`--help` of every command says what it reads, writes and costs; the shell completes the program's commands and names."""

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from stages._cli import app_of, keep_entries
from stages.cli import app
from tests.conftest import ROOT
from tests.pipeline.test_dvc_yaml import STAGES

ENTRIES = ("Reads:", "Writes:", "Costs:")
SCRIPT = "import sys; sys.argv[0] = 'weakclip'; from stages.cli import main; main()"


def commands(program: typer.Typer, *before: str) -> Iterator[tuple[str, ...]]:
    """The words that call each command of a program."""
    for command in program.registered_commands:
        yield (*before, command.name or command.callback.__name__)
    for group in program.registered_groups:
        yield from commands(group.typer_instance, *before, group.name)


def entries(text: str) -> list[str]:
    """The first words of the lines of a help text that begin an entry and a paragraph."""
    lines = text.splitlines()
    return [line.split()[0] for before, line in zip(["", *lines], lines, strict=False) if line.strip() and not before.strip()]


def complete(words: str) -> list[str]:
    """What bash would offer for the last of the words."""
    environment = os.environ | {
        "_WEAKCLIP_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
        "PYTHONPATH": str(ROOT),
    }
    result = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True)
    return result.stdout.split()


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_help_of_a_stage_says_what_it_reads_writes_and_costs(stage: str) -> None:
    program = app_of(importlib.import_module(f"stages.{stage}").main)
    keep_entries(program)
    said = CliRunner().invoke(program, ["--help"], catch_exceptions=False).output
    assert [entry for entry in (*ENTRIES, "Params:") if entry not in entries(said)] == []


@pytest.mark.parametrize("words", list(commands(app)), ids=" ".join)
def test_help_of_a_command_says_what_it_reads_writes_and_costs(words: tuple[str, ...]) -> None:
    keep_entries(app)
    said = CliRunner().invoke(app, [*words, "--help"], catch_exceptions=False).output
    assert [entry for entry in ENTRIES if entry not in entries(said)] == []


def test_entries_that_are_paragraphs_stay_as_they_are() -> None:
    program = app_of(importlib.import_module("stages.refine_masks").main)
    keep_entries(program)
    once = program.registered_commands[0].help
    keep_entries(program)
    assert program.registered_commands[0].help == once


def test_the_shell_completes_commands_presets_and_formats() -> None:
    assert complete("weakclip pre") == ["preset", "predict", "pretrain-mini"]
    assert complete("weakclip preset fol") == ["folder", "folder-openai"]
    assert complete("weakclip export --format co") == ["coco", "coco-polygons"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_can_be_shown(shell: str) -> None:
    environment = os.environ | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SCRIPT, "--show-completion", shell]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "_WEAKCLIP_COMPLETE" in result.stdout


def test_completion_is_installed_for_the_user(tmp_path: Path) -> None:
    environment = os.environ | {
        "HOME": str(tmp_path),
        "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-c", SCRIPT, "--install-completion", "bash"]
    subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert (tmp_path / ".bash_completions/weakclip.sh").is_file()
    assert "weakclip.sh" in (tmp_path / ".bashrc").read_text(encoding="utf-8")
