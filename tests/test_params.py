"""params.yaml is checked as a whole, in the user's own terms."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from tests.conftest import ROOT, change_params
from weakclip.errors import WeakClipError
from weakclip.params import Params, load, names
from weakclip.params_schema import Section

PRESETS = sorted((ROOT / "weakclip" / "presets").rglob("*.yaml"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "params.yaml"
    path.write_bytes((ROOT / "weakclip" / "presets" / "mini.yaml").read_bytes())
    return path


def problem(file: Path, changes: dict[str, object]) -> WeakClipError:
    change_params(file, changes)
    with pytest.raises(WeakClipError) as caught:
        load(file)
    return caught.value


def test_params_of_the_repository_are_the_mini_preset() -> None:
    assert (ROOT / "params.yaml").read_bytes() == (ROOT / "weakclip" / "presets" / "mini.yaml").read_bytes()


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_preset_is_valid_and_complete(preset: Path) -> None:
    assert isinstance(load(preset), Params)


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_presets_list_values_in_the_order_of_the_schema(preset: Path) -> None:
    def keys(model: BaseModel, prefix: str = "") -> list[str]:
        found = []
        for name, value in model:
            found += keys(value, f"{prefix}{name}.") if isinstance(value, BaseModel) else [prefix + name]
        return found

    assert keys(load(preset)) == names()


def test_exponents_without_a_point_are_numbers(file: Path) -> None:
    file.write_text(file.read_text().replace("lr: 2.0e-3  ", "lr: 1e-05  ", 1))
    assert load(file).lr == 1e-5


def test_int_will_do_where_a_float_is_asked(file: Path) -> None:
    change_params(file, {"lr": 1, "cam.scales": [1, 2]})
    assert load(file).lr == 1.0
    assert load(file).cam.scales == (1.0, 2.0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", True),
        ("seed", 1.0),
        ("seed", -1),
        ("lr", "abc"),
        ("lr", 0),
        ("lr", float("nan")),
        ("cam.flip", 1),
        ("cam.scales", []),
        ("features.scale", []),
        ("features.scale", [0.6]),
        ("masks.base_size", []),
        ("cam.scales", 1.0),
        ("clip.blocks", [3, 1, 4]),
        ("clip.blocks", [1, 1]),
        ("features.views", 65),
        ("features.scale", [1.4, 0.6]),
        ("masks.base_size", [128, 256]),
        ("dataset.name", "voc"),
        ("weakclip", 3),
        ("weakclip.boundary_crf.iterations", 0),
        ("crf.gate", 1.5),
        ("clip.image_size", 100),
        ("masks.stride", 0),
        ("clip.model", "ViT-B-16"),
        ("cam.source", "import"),
        ("cam.unsure_margin", 0.6),
        ("weakclip.warmup", 400),
        ("weakclip.decoder_heads", 5),
        ("deeplab.crop_size", 100),
        ("deeplab.encoder", "resnet50"),
    ],
)
def test_wrong_value_is_named_as_typed(file: Path, name: str, value: object) -> None:
    error = problem(file, {name: value})
    blamed = {
        "clip.model": "clip.weights",
        "cam.source": "cam.import_folder",
        "weakclip.decoder_heads": "weakclip.decoder_width",
    }
    assert blamed.get(name, name) in error.problem
    assert "\n" not in error.problem + error.hint


def test_all_problems_are_named_at_once(file: Path) -> None:
    error = problem(file, {"seed": True, "crf.bilateral_sxy": "wide", "evaluate.flip": 0})
    assert error.problem.count(";") == 2
    assert all(name in error.problem for name in ("seed", "crf.bilateral_sxy", "evaluate.flip"))


def test_unknown_name_brings_the_nearest_known_one(file: Path) -> None:
    file.write_text(file.read_text().replace("  context_length:", "  context_lenght:"))
    error = problem(file, {})
    assert "weakclip.context_lenght is not a parameter" in error.problem
    assert "weakclip.context_length is missing" in error.problem
    assert error.hint == "did you mean weakclip.context_length?  (a failed `dvc exp run -S` leaves params.yaml changed)"


def test_name_in_the_wrong_section_is_found(file: Path) -> None:
    file.write_text(file.read_text().replace("seed: 0  ", "background_threshold: 0.4\nseed: 0  ", 1))
    assert "cam.background_threshold" in problem(file, {}).hint


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no parameters"),
        ("- 1\n", "holds no parameters"),
        ("lr: [\n", "not YAML"),
        ("a: 1\na: 2\n", "not YAML"),
        ("seed: 2001-99-99\n", "not YAML"),
        ("seed: !!int abc\n", "not YAML"),
        ("seed: !!bool perhaps\n", "not YAML"),
        ("seed: !!timestamp now\n", "not YAML"),
        (f"seed: {'1' * 5000}\n", "not YAML"),
        ("[" * 5000, "not YAML"),
    ],
)
def test_file_that_is_no_mapping_is_refused(file: Path, text: str, words: str) -> None:
    file.write_text(text)
    assert words in problem_of(file)


def test_lists_in_lists_that_a_few_lines_stand_for_are_not_written_out(file: Path) -> None:
    lists = (f"b{n}: &b{n} [{','.join([f'*b{n - 1}'] * 10)}]\n" for n in range(1, 15))
    file.write_text("b0: &b0 [x]\n" + "".join(lists) + "seed: *b14\n")
    assert "seed is [[[...]" in problem_of(file) and len(problem_of(file)) < 5000


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "params.yaml")
    assert "is no file" in problem_of(tmp_path / "params.yaml")


def test_missing_file_is_refused_with_the_command_that_writes_it(tmp_path: Path) -> None:
    with pytest.raises(WeakClipError) as caught:
        load(tmp_path / "params.yaml")
    assert "weakclip preset mini" in caught.value.hint


def problem_of(file: Path) -> str:
    with pytest.raises(WeakClipError) as caught:
        load(file)
    assert "\n" not in caught.value.problem
    return caught.value.problem


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"cam.descriptions": "/elsewhere/of.json"}, "should be a file under data/raw"),
        ({"weakclip.variant": "published", "masks.affinity_blocks": 2}, "that of weakclip.variant published moves"),
    ],
)
def test_techniques_that_do_not_go_together_are_named(file: Path, changes: dict[str, object], problem: str) -> None:
    change_params(file, changes)
    with pytest.raises(WeakClipError, match=problem):
        load(file)


def test_published_variant_is_left_to_the_stage(file: Path) -> None:
    change_params(file, {"weakclip.variant": "published"})
    assert load(file).weakclip.variant == "published"


def test_every_field_is_explained() -> None:
    def unexplained(section: type[Section]) -> list[str]:
        found = [f"{section.__name__}.{name}" for name, field in section.model_fields.items() if not field.description]
        for field in section.model_fields.values():
            if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
                found += unexplained(field.annotation)
        return found

    assert unexplained(Params) == []


def test_no_field_has_a_default() -> None:
    def defaulted(section: type[Section]) -> list[str]:
        found = [name for name, field in section.model_fields.items() if not field.is_required()]
        for field in section.model_fields.values():
            if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
                found += defaulted(field.annotation)
        return found

    assert defaulted(Params) == []


@given(value=st.one_of(st.text(), st.booleans(), st.none(), st.lists(st.integers()), st.floats(max_value=0)))
def test_anything_but_a_positive_number_is_no_learning_rate(value: object) -> None:
    values = load(ROOT / "params.yaml").model_dump() | {"lr": value}
    with pytest.raises(ValueError, match="lr"):
        Params.model_validate(values)


def test_a_file_of_an_older_version_is_told_what_its_preset_has(file: Path) -> None:
    lines = [line for line in file.read_text().splitlines() if not line.startswith(("  gate:", "  dtype:"))]
    file.write_text("\n".join(lines))
    error = problem(file, {})
    assert error.problem == f"{file}: features.dtype is missing; crf.gate is missing"
    assert error.hint.startswith('is it of an older version? the preset mini has features.dtype: "float16", crf.gate: 0.95')


def test_missing_names_without_a_known_dataset_get_the_plain_hint(file: Path) -> None:
    file.write_text(file.read_text().replace("name: mini", "name: other").replace("seed:", "# seed:"))
    assert problem(file, {}).hint.startswith("correct it")
