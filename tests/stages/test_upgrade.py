"""A params.yaml of an older version keeps its values and comments and gets what it lacks."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from stages.cli import PRESETS, app
from tests.conftest import change_params
from weakclip.errors import WeakClipError
from weakclip.params import load

PARAMS = Path("params.yaml")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def older(preset: str, *lacking: str) -> None:
    """A params.yaml of the preset without the lines of some keys."""
    text = (PRESETS / f"{preset}.yaml").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.strip().startswith(tuple(f"{key}:" for key in lacking))]
    PARAMS.write_text("\n".join(lines) + "\n", encoding="utf-8")


def upgrade() -> str:
    return CliRunner().invoke(app, ["upgrade"], catch_exceptions=False).output


@pytest.mark.parametrize("preset", ["mini", "folder", "folder-openai", "voc12", "coco14"])
def test_what_is_missing_comes_from_the_preset_with_its_comment(preset: str) -> None:
    older(preset, "precision", "share_absent", "dtype")
    change_params(PARAMS, {"lr": 0.123})
    former = PARAMS.read_text(encoding="utf-8")
    with pytest.raises(WeakClipError) as caught:
        load(PARAMS)
    assert "`weakclip upgrade` adds them" in caught.value.hint
    said = upgrade()
    assert "added clip.precision: float32" in said and "added features.dtype: float16" in said
    assert "added deeplab.precision: float32" in said
    now, wanted = load(PARAMS), load(PRESETS / f"{preset}.yaml")
    assert now == wanted.model_copy(update={"lr": 0.123})
    assert Path("params.yaml.bak").read_text(encoding="utf-8") == former
    lines = [line for line in PARAMS.read_text(encoding="utf-8").splitlines() if line.strip().startswith("precision:")]
    assert len(lines) == 2 and all("#" in line for line in lines)


def test_the_empty_lines_stay_between_the_sections() -> None:
    older("mini", "algorithm", "backend", "affinity_share", "gallery_size")
    upgrade()
    text = PARAMS.read_text(encoding="utf-8")
    sections = text.split("\n\n")
    assert [section.splitlines()[0] for section in sections[1:]] == [
        section.splitlines()[0] for section in (PRESETS / "mini.yaml").read_text(encoding="utf-8").split("\n\n")[1:]
    ]
    assert all("\n  backend:" in section for section in sections if section.startswith("crf:"))
    assert text.endswith("\n") and not text.endswith("\n\n")


def test_a_complete_file_stays_as_it_is() -> None:
    older("mini")
    before = PARAMS.read_bytes()
    assert "has all parameters" in upgrade()
    assert PARAMS.read_bytes() == before and not Path("params.yaml.bak").exists()


def test_what_is_wrong_otherwise_is_named_and_nothing_is_changed() -> None:
    older("mini", "precision")
    change_params(PARAMS, {"lr": "fast"})
    before = PARAMS.read_bytes()
    with pytest.raises(WeakClipError, match=r"^params.yaml: lr is 'fast'"):
        upgrade()
    assert PARAMS.read_bytes() == before
    assert [path.name for path in Path.cwd().iterdir()] == ["params.yaml"]


@pytest.mark.parametrize("text", ["", "lr: 1\n", "- 1\n", "dataset: 3\n", "dataset:\n  name: imagenet\n"])
def test_a_file_of_no_known_dataset_is_refused(text: str) -> None:
    PARAMS.write_text(text, encoding="utf-8")
    with pytest.raises(WeakClipError, match="names no dataset"):
        upgrade()


def test_a_missing_file_is_named() -> None:
    with pytest.raises(WeakClipError, match="is missing"):
        upgrade()


def test_what_is_not_yaml_is_told_in_two_lines() -> None:
    PARAMS.write_text("lr: [1\n", encoding="utf-8")
    with pytest.raises(WeakClipError, match=r"params\.yaml is not YAML: ") as caught:
        upgrade()
    assert "\n" not in caught.value.problem
