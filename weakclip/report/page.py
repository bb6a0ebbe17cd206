"""The report page: one HTML file that opens from the disk, with its pictures in a folder beside it.

Every section is a function from data to HTML, in a module of its own. The page loads nothing from the net, follows the
reader's light or dark setting, and is the same file for the same figures. Its script finds what it needs in attributes of the
page, so names of images and classes are escaped once, as HTML, and never stand inside the script; without it the page shows
everything and has no controls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from weakclip.disk_space import write_whole
from weakclip.report.classes import class_section
from weakclip.report.confusions import confusion_section
from weakclip.report.gallery import GalleryRow, gallery_section
from weakclip.report.quality import StageFigures, quality_section
from weakclip.report.script import SCRIPT
from weakclip.report.style import STYLE


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
    write_whole(folder / "index.html", render_page(report).encode())


def render_page(report: Report) -> str:
    """The whole page as HTML."""
    title = escape(f"WeakCLIP on {report.dataset}")
    pictured = frozenset(report.class_names[tag] for row in report.gallery for tag in row.tags)
    sections = {
        "quality": quality_section(report.stages, report.without_masks),
        "classes": class_section(report.class_iou, report.class_names, pictured),
        "confusions": confusion_section(report.confusions),
        "gallery": gallery_section(report.gallery, report.class_names),
    }
    links = "".join(f'<a href="#{name}">{name}</a>' for name, html in sections.items() if html)
    body = "".join(f'<section id="{name}">\n{html}</section>\n' for name, html in sections.items() if html)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>\n{STYLE}\n</style>\n</head>\n<body>\n<header><h1>{title}</h1>\n"
        '<p class="faint">From image-level tags to masks, and to a segmentation network trained on them.</p>\n'
        f'<nav aria-label="Sections">{links}</nav></header>\n<main>\n{body}</main>\n'
        f"<script>\n{SCRIPT}\n</script>\n</body>\n</html>\n"
    )
