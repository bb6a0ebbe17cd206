"""The report's confusions, in words: what the pixels of a class were taken for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

MOST_CONFUSIONS: Final = 12  # in a list
SMALLEST_CONFUSION: Final = 0.005  # share of a class's pixels


def confusion_section(rows: Sequence[Mapping[str, object]]) -> str:
    """The largest confusions: between classes, objects that were missed or left unsure, and background taken for objects.

    ``rows``: ``actual``, ``predicted`` (``unsure`` for 255), ``share`` of the actual class's pixels, 0..1.
    """
    wrong = [row for row in rows if row["actual"] != row["predicted"] and share(row) >= SMALLEST_CONFUSION]
    wrong.sort(key=lambda row: (-share(row), str(row["actual"]), str(row["predicted"])))
    of_objects = [row for row in wrong if row["actual"] != "background"]
    lists = {
        "Taken for another class": [row for row in of_objects if row["predicted"] not in ("background", "unsure")],
        "Missed": [row for row in of_objects if row["predicted"] in ("background", "unsure")],
        "Background taken for a class": [row for row in wrong if row["actual"] == "background"],
    }
    shown = "".join(
        f"<div>\n<h3>{heading}</h3>\n<ul>\n{''.join(_item(row) for row in part[:MOST_CONFUSIONS])}</ul>\n</div>\n"
        for heading, part in lists.items()
        if part
    )
    if not shown:
        return ""
    return (
        "<h2>Confusions</h2>\n<p>Share of the pixels of a class, in all validation images together, that the network takes for "
        f'something else; {100 * SMALLEST_CONFUSION:g} % and more.</p>\n<div class="lists">\n{shown}</div>\n'
    )


def in_words(actual: str, predicted: str) -> str:
    """What happened to pixels: ``of cat is taken for dog``."""
    subject = "the background" if actual == "background" else actual
    endings = {"background": "is taken for background", "unsure": "is left unsure"}
    return f"of {subject} {endings.get(predicted, f'is taken for {predicted}')}"


def share(row: Mapping[str, object]) -> float:
    """A row's share, 0..1."""
    value = row["share"]
    if not isinstance(value, int | float):
        raise ValueError(f"expected a number, got {value!r}")
    return float(value)


def _item(row: Mapping[str, object]) -> str:
    return f"<li><b>{100 * share(row):.1f} %</b> {escape(in_words(str(row['actual']), str(row['predicted'])))}</li>\n"
