"""The report's table of classes: their IoU at each stage, as bars and figures."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from html import escape

from weakclip.report.quality import STAGES


def class_section(rows: Sequence[Mapping[str, object]], class_names: Sequence[str], pictured: Collection[str]) -> str:
    """Bars of the last stage that has figures, marks for the ones before it; classes from best to worst.

    ``rows``: ``class`` and percentages by stage. ``pictured``: the classes that the gallery can be limited to; their names
    are links that do it.
    """
    present = [stage for stage in STAGES if any(stage in row for row in rows)]
    if not present:
        return ""
    bar, marks = present[-1], present[:-1]
    ordered = sorted(rows, key=lambda row: (-percentage(row, bar, -1.0), str(row["class"])))
    body = "".join(_row(row, bar, marks, class_names, pictured) for row in ordered)
    heads = "".join(f'<th scope="col">{stage if stage != "val" else STAGES[stage]}</th>' for stage in present)
    shapes = "".join(f'<span><i class="mark {stage}"></i>{STAGES[stage]}</span>' for stage in marks)
    return (
        f'<h2>IoU by class</h2>\n<p class="key">Percent. <span><i class="bar"></i>{STAGES[bar]}</span>{shapes}</p>\n'
        '<table class="classes">\n<thead><tr><th scope="col">class</th>'
        f'<td aria-hidden="true"><div class="axis"><span>0</span><span>50</span><span>100</span></div></td>{heads}</tr>'
        "</thead>\n"
        f"<tbody>\n{body}</tbody>\n</table>\n"
    )


def percentage(row: Mapping[str, object], stage: str, otherwise: float) -> float:
    """The row's figure of a stage."""
    value = row.get(stage, otherwise)
    if not isinstance(value, int | float):
        raise ValueError(f"expected a number, got {value!r}")
    return float(value)


def _row(
    row: Mapping[str, object], bar: str, marks: Sequence[str], class_names: Sequence[str], pictured: Collection[str]
) -> str:
    name = str(row["class"])
    shown = escape(name)
    if name in pictured:
        shown = f'<a href="#gallery" data-class="{class_names.index(name)}" title="see pictures">{shown}</a>'
    track = f'<span class="bar" style="width:{percentage(row, bar, 0.0):.1f}%"></span>' if bar in row else ""
    for stage in marks:
        if stage in row:
            track += f'<span class="mark {stage}" style="left:{percentage(row, stage, 0.0):.1f}%"></span>'
    figures = "".join(
        f"<td>{percentage(row, stage, 0.0):.1f}</td>" if stage in row else '<td><abbr title="not there">–</abbr></td>'  # noqa: RUF001
        for stage in (*marks, bar)
    )
    return f'<tr><th scope="row">{shown}</th><td aria-hidden="true"><div class="track">{track}</div></td>{figures}</tr>\n'
