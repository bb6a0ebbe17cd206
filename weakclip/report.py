"""The report page: one static HTML file and its pictures, from figures that are already there.

Every section is a function from data to HTML; `write_report` puts them together. The page runs no scripts, loads nothing
from the net, follows the reader's light or dark setting, and is the same file for the same figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from urllib.parse import quote

from weakclip.gallery import Panel, shown_classes
from weakclip.masks import IGNORE, PALETTE
from weakclip.report_style import STYLE

STAGES = {"seed": "CAM seed", "pseudo": "pseudo mask", "refined": "refined mask", "val": "DeepLab"}
COLUMNS = {
    "photo": "photo",
    "seed": "CAM seed",
    "pseudo": "pseudo",
    "refined": "refined",
    "deeplab": "DeepLab",
    "truth": "truth",
}
MOST_CONFUSIONS = 12
SMALLEST_CONFUSION = 0.005  # shares below are printed as 0 %


@dataclass(frozen=True, kw_only=True)
class StageFigures:
    """One product of the pipeline: ``stage`` (seed, pseudo, refined, val) and the block of its metrics file."""

    stage: str
    block: Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class GalleryRow:
    """One image of the gallery: its id, split, a remark such as ``worst, IoU 12.3 %``, its tags and its pictures."""

    image_id: str
    split: str
    remark: str
    tags: tuple[int, ...]
    panels: tuple[Panel, ...]


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that the page shows.

    ``class_names``: by index, background first. ``stages``: in the order of the pipeline. ``without_masks``: percentages
    that need no true masks, by what they are. ``class_iou``: rows with ``class`` and percentages by stage, absent where
    a class does not occur. ``confusions``: rows ``actual``, ``predicted``, ``share`` (0..1).
    """

    dataset: str
    class_names: tuple[str, ...]
    stages: tuple[StageFigures, ...]
    without_masks: Mapping[str, float]
    class_iou: Sequence[Mapping[str, object]]
    confusions: Sequence[Mapping[str, object]]
    gallery: tuple[GalleryRow, ...]


def write_report(report: Report, folder: Path) -> None:
    """Write ``folder/index.html``; the pictures are expected in ``folder/images``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.html").write_text(render_page(report), encoding="utf-8", newline="\n")


def render_page(report: Report) -> str:
    """The whole page as HTML."""
    title = escape(f"WeakCLIP on {report.dataset}")
    sections = (
        headline_section(report.stages, report.without_masks),
        class_section(report.class_iou),
        confusion_section(report.confusions),
        gallery_section(report.gallery, report.class_names),
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>\n{STYLE}\n</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
        '<p class="faint">From image-level tags to masks, and to a segmentation network trained on them.</p>\n'
        + "".join(sections)
        + "</body>\n</html>\n"
    )


def conditions(block: Mapping[str, object]) -> str:
    """What a mIoU was measured on and with: ``600 train images, scale 1.0, mirrored, CRF``."""
    parts = [f"{block['n']:,} {block['split']} images"]
    scales = block.get("scales")
    if isinstance(scales, list | tuple) and scales:
        parts.append(f"scale{'s' if len(scales) > 1 else ''} {' '.join(f'{scale:g}' for scale in scales)}")
    if "flip" in block:
        parts.append("mirrored too" if block["flip"] else "not mirrored")
    if "crf" in block:
        parts.append("with CRF" if block["crf"] else "no CRF")
    return ", ".join(parts)


def deltas(stages: Sequence[StageFigures]) -> list[tuple[StageFigures, float, float | None]]:
    """The stages that have a mIoU, with it and its difference to the one before, in percent."""
    rows: list[tuple[StageFigures, float, float | None]] = []
    for stage in stages:
        value = stage.block.get("miou")
        if isinstance(value, int | float):
            rows.append((stage, float(value), float(value) - rows[-1][1] if rows else None))
    return rows


def headline_section(stages: Sequence[StageFigures], without_masks: Mapping[str, float]) -> str:
    cards = []
    for stage, value, delta in deltas(stages):
        change = ""
        if delta is not None:
            change = f'<span class="{"up" if delta >= 0 else "down"}">{delta:+.1f}</span>'
        name = f"{stage.stage}: {STAGES[stage.stage]}"
        cards.append(_card(name, f"{value:.1f}{change}", conditions(stage.block)))
    note = "Mean intersection over union in percent, background included; each difference is to the figure on its left."
    if cards and not any(stage.stage == "val" for stage, _, _ in deltas(stages)):
        note += " The validation images have no true masks, so there is no figure for the network itself."
    if not cards:
        note = "There are no true masks, so no mIoU. What can be known without them:"
    known = "".join(_card(name, f"{value:.1f} %", "") for name, value in without_masks.items())
    extra = f'<div class="cards small">\n{known}</div>\n' if known else ""
    between = "<p>Known without true masks:</p>\n" if cards and known else ""
    main = f'<div class="cards">\n{"".join(cards)}</div>\n' if cards else ""
    return f"<h2>Quality by stage</h2>\n<p>{note}</p>\n{main}{between}{extra}"


def class_section(rows: Sequence[Mapping[str, object]]) -> str:
    """Bars of the last stage that has figures, marks for the ones before it; classes from best to worst."""
    present = [stage for stage in STAGES if any(stage in row for row in rows)]
    if not present:
        return ""
    bar, marks = present[-1], present[:-1]
    ordered = sorted(rows, key=lambda row: (-_number(row.get(bar, -1.0)), str(row["class"])))
    left = 24 + 7.5 * max(len(str(row["class"])) for row in rows)
    right, step, top = 700.0, 24, 24
    height = top + step * len(ordered) + 6
    lines = [f'<svg viewBox="0 0 760 {height}" role="img" aria-label="IoU of each class in percent">\n']
    for percent in range(0, 101, 20):
        x = left + (right - left) * percent / 100
        lines.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top - 4}" y2="{height}"/>')
        lines.append(f'<text class="axis" x="{x:.1f}" y="14" text-anchor="middle">{percent}</text>\n')
    for position, row in enumerate(ordered):
        lines.append(_class_bar(row, bar, marks, top + step * position, left, right))
    lines.append("</svg>\n")
    shapes = {bar: '<rect class="bar" y="1" width="12" height="10"/>'}
    shapes |= {stage: f'<circle class="{stage}" cx="6" cy="6" r="4"/>' for stage in marks}
    key = "".join(f'<span><svg viewBox="0 0 12 12">{shape}</svg>{STAGES[stage]}</span>' for stage, shape in shapes.items())
    return f'<h2>IoU by class</h2>\n<p class="key">Percent. {key}</p>\n{"".join(lines)}'


def confusion_section(rows: Sequence[Mapping[str, object]]) -> str:
    """The largest confusions in words: between classes, and objects that were missed or taken for unsure."""
    wrong = [
        row
        for row in rows
        if row["actual"] not in ("background", row["predicted"]) and _number(row["share"]) >= SMALLEST_CONFUSION
    ]
    wrong.sort(key=lambda row: (-_number(row["share"]), str(row["actual"]), str(row["predicted"])))
    between = [row for row in wrong if row["predicted"] not in ("background", "unsure")]
    missed = [row for row in wrong if row["predicted"] in ("background", "unsure")]
    if not wrong:
        return ""
    lists = "".join(
        f"<div>\n<h3>{heading}</h3>\n<ul>\n{''.join(_confusion(row) for row in part[:MOST_CONFUSIONS])}</ul>\n</div>\n"
        for heading, part in (("Taken for another class", between), ("Missed", missed))
        if part
    )
    return (
        "<h2>Confusions</h2>\n<p>Share of a class's pixels in the validation images that the network takes for something "
        f'else.</p>\n<div class="lists">\n{lists}</div>\n'
    )


def gallery_section(rows: Sequence[GalleryRow], class_names: Sequence[str]) -> str:
    """The pictures with the legend of all classes that they show."""
    if not rows:
        return ""
    shown = sorted({index for row in rows for index in (*row.tags, *shown_classes(row.panels))})
    legend = "".join(_swatch(index, class_names) for index in (*shown, IGNORE))
    parts = [
        "<h2>Gallery</h2>\n<p>The worst images, those around the median and the best. Colours show classes, darkened parts are "
        "background.</p>\n",
        f'<p class="legend">{legend}</p>\n',
    ]
    for heading, wanted in (("Validation images", True), ("Training images", False)):
        group = [row for row in rows if (row.split == "val") is wanted]
        if group:
            body = "".join(_gallery_row(row, class_names) for row in group)
            parts.append(f"<h3>{heading}</h3>\n" + (f'<div class="pairs">\n{body}</div>\n' if wanted else body))
    return "".join(parts)


def _card(name: str, value: str, note: str) -> str:
    small = f"<small>{escape(note)}</small>" if note else ""
    return f'<div class="card">{escape(name)}<b>{value}</b>{small}</div>\n'


def _class_bar(row: Mapping[str, object], bar: str, marks: Sequence[str], y: float, left: float, right: float) -> str:
    name = escape(str(row["class"]))
    values = {stage: _number(row[stage]) for stage in (bar, *marks) if stage in row}
    hover = ", ".join(f"{STAGES[stage]} {value:.1f}" for stage, value in values.items())
    unit = (right - left) / 100
    parts = [f"<g><title>{name}: {hover}</title>"]
    parts.append(f'<text x="{left - 8:.1f}" y="{y + 15}" text-anchor="end">{name}</text>')
    if bar in values:
        parts.append(f'<rect class="bar" x="{left:.1f}" y="{y + 4}" width="{values[bar] * unit:.1f}" height="14" rx="2"/>')
    for stage in marks:
        if stage in values:
            parts.append(f'<circle class="{stage}" cx="{left + values[stage] * unit:.1f}" cy="{y + 11}" r="4"/>')
    label = f"{values[bar]:.1f}" if bar in values else "not there"
    parts.append(f'<text class="axis" x="{right + 8:.1f}" y="{y + 15}">{label}</text></g>\n')
    return "".join(parts)


def _confusion(row: Mapping[str, object]) -> str:
    words = f"{row['actual']} → {row['predicted']}"
    return f"<li>{escape(words)} {100 * _number(row['share']):.0f} %</li>\n"


def _gallery_row(row: GalleryRow, class_names: Sequence[str]) -> str:
    figures = "".join(_figure(row.image_id, panel, class_names) for panel in row.panels)
    tags = "".join(_swatch(tag, class_names) for tag in row.tags)
    return (
        f'<article class="row"><header><b>{escape(row.image_id)}</b><span class="faint">{escape(row.remark)}</span>'
        f'<span class="tags">{tags}</span></header>\n<div class="panels">\n{figures}</div></article>\n'
    )


def _figure(image_id: str, panel: Panel, class_names: Sequence[str]) -> str:
    column = COLUMNS[panel.column]
    shows = ", ".join(_class_name(index, class_names) for index in panel.classes) or "background only"
    alt = f"{column} of {image_id}" + ("" if panel.column == "photo" else f": {shows}")
    return (
        f'<figure><img src="images/{quote(panel.file)}" alt="{escape(alt)}" width="{panel.width}" '
        f'height="{panel.height}" loading="lazy"><figcaption>{column}</figcaption></figure>\n'
    )


def _swatch(index: int, class_names: Sequence[str]) -> str:
    red, green, blue = (int(value) for value in PALETTE[index])
    return f'<span><i style="background:rgb({red},{green},{blue})"></i>{escape(_class_name(index, class_names))}</span>'


def _class_name(index: int, class_names: Sequence[str]) -> str:
    return "unsure" if index == IGNORE else class_names[index]


def _number(value: object) -> float:
    if not isinstance(value, int | float):
        raise ValueError(f"expected a number, got {value!r}")
    return float(value)
