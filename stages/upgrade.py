"""Bring a params.yaml of an older version up to date: not a stage, `weakclip upgrade` runs it.

Reads params.yaml and the preset that it was made from. Writes params.yaml with the parameters that it lacks. New parameters
have values in the presets that leave results as they were (CHANGELOG.md names them), so a run means what it meant.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.tokens import CommentToken

from weakclip.errors import WeakClipError
from weakclip.params import load, read_yaml
from weakclip.progress import say


def upgrade(params: Path, presets: Path) -> None:
    """Add the parameters that the file lacks, with the comments of its preset; keep the former file as params.yaml.bak.

    Raises:
        WeakClipError: there is no such file or no preset of its dataset, or something else is wrong with it.
    """
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 200
    former, values = read_yaml(params, yaml)
    name = preset_of(values)
    preset = presets / f"{name}.yaml"
    if not preset.is_file():
        raise WeakClipError(f"{params} names no dataset that there is a preset of", "write it anew: `weakclip preset NAME`")
    added = list(fill(values, yaml.load(preset.read_text(encoding="utf-8"))))
    if not added:
        load(params)
        say(f"{params} has all parameters")
        return
    part = params.with_name(f".{params.name}.part")
    with part.open("w", encoding="utf-8", newline="\n") as file:
        yaml.dump(values, file)
    try:
        load(part)
    except WeakClipError as error:
        part.unlink()
        raise WeakClipError(error.problem.replace(str(part), str(params)), error.hint) from error
    backup = params.with_name(f"{params.name}.bak")
    backup.write_text(former, encoding="utf-8", newline="\n")
    part.replace(params)
    for line in added:
        say(f"added {line}")
    say(f"the former {params} is now {backup}")


def preset_of(values: Any) -> str:
    """The preset that a file with these values was made from."""
    dataset, clip = (values.get(name, {}) if isinstance(values, CommentedMap) else {} for name in ("dataset", "clip"))
    name = str(dataset.get("name", "")) if isinstance(dataset, CommentedMap) else ""
    real = isinstance(clip, CommentedMap) and clip.get("model", "mini") != "mini"
    return "folder-openai" if name == "folder" and real else name


def fill(values: CommentedMap, preset: CommentedMap, prefix: str = "") -> Iterator[str]:
    """Put what the preset has and the values lack at the end of each section; yields `name: value` of each."""
    before, last = next(reversed(values), ""), next((key for key in reversed(preset) if key not in values), "")
    for key, value in preset.items():
        if key not in values:
            values[key] = value
            if key in preset.ca.items:
                values.ca.items[key] = preset.ca.items[key]
            yield f"{prefix}{key}: {dict(value) if isinstance(value, CommentedMap) else value}"
        elif isinstance(value, CommentedMap) and isinstance(values[key], CommentedMap):
            yield from fill(values[key], value, f"{prefix}{key}.")
    if before and last:
        _move_empty_line(values.ca.items, before, last)


def _move_empty_line(comments: dict[str, list[Any]], before: str, last: str) -> None:
    """The empty line after a section is a part of its last key's comment: from the former last one's to that of the new one."""
    former = comments.get(before, [None] * 4)[2]
    if former is not None and former.value.endswith("\n\n"):
        former.value = former.value[:-1]
        comment = comments.setdefault(last, [None] * 4)
        text = "" if comment[2] is None else comment[2].value.rstrip("\n")
        comment[2] = CommentToken(f"{text}\n\n", former.start_mark)
