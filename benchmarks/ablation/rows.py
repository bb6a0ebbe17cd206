"""The rows of an ablation, from a table in YAML.

    preset: mini
    techniques:                         # what the recipe best does otherwise than repaired, by name
      averaged weights: [deeplab.ema]
    rows:
      - {name: perfect seeds, recipe: best, set: {cam.source: import, cam.import_folder: data/raw/true_masks}}
      - {name: full supervision, recipe: repaired, upper_bound: true}

There is a row for `repaired` and one for `best`, for each technique one of `best` without it (its parameters as `repaired` has
them) and one of `repaired` with it alone, and the rows that are spelled out. `base` changes all of them. The folder
``data/raw/true_masks`` of a row holds the true masks of its images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML

import weakclip
from weakclip.errors import WeakClipError
from weakclip.params_schema import Params

PRESETS: Final = Path(weakclip.__file__).parent / "presets"
SEEDED: Final = ("seed", "dataset.mini_world")
Values = dict[str, Any]
"""All of a params.yaml, nested as there."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """``values``: its parameters but for the seeds. ``upper_bound``: train on true masks instead of running the pipeline."""

    name: str
    values: Values = field(hash=False)
    upper_bound: bool = False

    def seeded(self, seed: int) -> Values:
        """Its parameters for a seed, of everything that is drawn and of the mini world."""
        return changed(self.values, dict.fromkeys(SEEDED, seed), self.name)


def read_table(path: Path) -> tuple[Row, ...]:
    """The rows of a table, in its order.

    Raises:
        WeakClipError: the table has an unknown key, names a parameter that there is not, or gives one a wrong value.
    """
    try:
        table = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WeakClipError(f"{path} is missing", "benchmarks/ablation/techniques.yaml is an example of a table") from error
    known = {"preset", "base", "techniques", "rows"}
    if not isinstance(table, Mapping) or table.keys() - known or "preset" not in table:
        raise WeakClipError(f"{path} is no table of an ablation", f"its keys are {', '.join(sorted(known))}; preset is needed")
    preset, base = str(table["preset"]), dict(table.get("base") or {})
    techniques: Mapping[str, Sequence[str]] = table.get("techniques") or {}
    entries = [{"recipe": "repaired", **entry} for entry in table.get("rows") or []]
    used = {str(entry["recipe"]) for entry in entries} | ({"repaired", "best"} if techniques else set())
    recipes = {recipe: read_recipe(preset, recipe, base) for recipe in sorted(used, reverse=True)}
    rows = [Row(name=recipe, values=values) for recipe, values in recipes.items()] if techniques else []
    for recipe, other, words in (("best", "repaired", "best without {}"), ("repaired", "best", "repaired with {}")):
        for technique, names in techniques.items():
            name = words.format(technique)
            taken = {parameter: value_of(recipes[other], parameter, name) for parameter in names}
            rows.append(Row(name=name, values=changed(recipes[recipe], taken, name)))
    rows += [_spelled_out(entry, recipes) for entry in entries]
    if len({row.name for row in rows}) < len(rows):
        raise WeakClipError(f"{path} has two rows of one name", "name each row once")
    return tuple(rows)


def _spelled_out(entry: Mapping[str, Any], recipes: Mapping[str, Values]) -> Row:
    if "name" not in entry or entry.keys() - {"name", "recipe", "set", "upper_bound"}:
        raise WeakClipError(f"{dict(entry)} is no row", "a row has a name and, where wanted, recipe, set and upper_bound")
    values = changed(recipes[str(entry["recipe"])], entry.get("set") or {}, str(entry["name"]))
    return Row(name=str(entry["name"]), values=values, upper_bound=bool(entry.get("upper_bound", False)))


def read_recipe(preset: str, recipe: str, base: Mapping[str, object]) -> Values:
    """The parameters of a preset's recipe, with the table's own ones for all rows."""
    path = PRESETS / f"{preset}.yaml" if recipe == "repaired" else PRESETS / recipe / f"{preset}.yaml"
    if not path.is_file():
        raise WeakClipError(f"the preset {preset} has no recipe {recipe}", "take another preset")
    values: Values = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    return changed(values, base, f"recipe {recipe}")


def changed(values: Values, changes: Mapping[str, object], row: str) -> Values:
    """A copy with values changed by their dotted names, checked as `params.yaml` is."""
    copy: Values = _copied(values)
    for name, value in changes.items():
        value_of(copy, name, row)
        *sections, key = name.split(".")
        place = copy
        for section in sections:
            place = place[section]
        place[key] = value
    try:
        Params.model_validate(copy)
    except ValueError as error:
        raise WeakClipError(f"row {row}: {' '.join(str(error).split())}", "the values are those of params.yaml") from error
    return copy


def value_of(values: Values, name: str, row: str) -> Any:
    """A value, or a whole section, by its dotted name."""
    found: Any = values
    for part in name.split("."):
        if not isinstance(found, dict) or part not in found:
            raise WeakClipError(f"row {row}: there is no parameter {name}", "the names are those of params.yaml, as after -S")
        found = found[part]
    return found


def _copied(values: Any) -> Any:
    return {key: _copied(value) for key, value in values.items()} if isinstance(values, dict) else values
