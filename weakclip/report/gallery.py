"""The report's gallery: a row of pictures for each image, and the controls that filter, sort and fade them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final
from urllib.parse import quote

from weakclip.gallery import Pictures
from weakclip.masks import IGNORE, PALETTE

COLUMNS: Final = {
    "photo": "photo",
    "cam": "CAM",
    "seed": "CAM seed",
    "pseudo": "pseudo",
    "refined": "refined",
    "deeplab": "DeepLab",
    "truth": "truth",
}
GROUPS: Final = {"val": "Validation images", "train": "Training images"}
OPACITY: Final = 60  # percent, of the masks over the photos to begin with


@dataclass(frozen=True, kw_only=True)
class GalleryRow:
    """One image of the gallery.

    ``group``: val or train. ``rank``: worst, median or best, by ``quality``, of which more is better. ``remark``: what it is
    there for, such as ``IoU 12.3 %``. ``tags``: class indices. ``figures``: what to say below a picture, by its column.
    """

    image_id: str
    group: str
    rank: str
    quality: float
    remark: str
    tags: tuple[int, ...]
    pictures: Pictures
    figures: dict[str, str]


def gallery_section(rows: Sequence[GalleryRow], class_names: Sequence[str]) -> str:
    """The pictures with the legend of all classes that they show."""
    if not rows:
        return ""
    shown = {index for row in rows for index in row.tags}
    shown |= {index for row in rows for layer in row.pictures.layers for index in layer.classes}
    legend = "".join(_swatch(index, class_names) for index in (*sorted(shown - {IGNORE}), IGNORE))
    parts = [
        "<h2>Gallery</h2>\n<p>The worst images, those around the median and the best. Masks lie over the photos: colours show "
        "classes, darkened parts are background; in a CAM the colour is the stronger, the surer the class.</p>\n",
        f'<p class="legend">{legend}</p>\n',
        _controls(rows, class_names),
    ]
    for group, heading in GROUPS.items():
        body = "".join(_row(row, class_names) for row in rows if row.group == group)
        if body:
            parts.append(f'<div class="group {group}">\n<h3>{heading}</h3>\n<div class="rows">\n{body}</div>\n</div>\n')
    return "".join(parts)


def _controls(rows: Sequence[GalleryRow], class_names: Sequence[str]) -> str:
    classes = {str(index): class_names[index] for index in sorted({tag for row in rows for tag in row.tags})}
    splits = {group: heading.split()[0].lower() for group, heading in GROUPS.items() if any(r.group == group for r in rows)}
    orders = {"worst": "worst first", "best": "best first", "name": "by name"}
    return (
        '<form id="controls" hidden aria-label="What the gallery shows">\n'
        + _select("class", "Class", {"": "all", **classes})
        + _select("group", "Images", {"": "all", **splits})
        + _select("rank", "Part", {"": "all", "worst": "worst", "median": "median", "best": "best"})
        + _select("order", "Order", orders)
        + f'<label>Overlay <input type="range" name="opacity" min="0" max="100" step="5" value="{OPACITY}"></label>\n'
        '<button type="button" name="all">Show all</button>\n<output name="shown"></output>\n</form>\n'
    )


def _select(name: str, label: str, options: dict[str, str]) -> str:
    items = "".join(f'<option value="{value}">{escape(words)}</option>' for value, words in options.items())
    return f'<label>{label} <select name="{name}">{items}</select></label>\n'


def _row(row: GalleryRow, class_names: Sequence[str]) -> str:
    name = escape(row.image_id)
    pictures = row.pictures
    parts = [_figure(row, "photo", _image(pictures, pictures.photo, f"photo of {row.image_id}"))]
    for layer in pictures.layers:
        shows = ", ".join(_class_name(index, class_names) for index in layer.classes) or "background only"
        words = f"{COLUMNS[layer.column]} of {row.image_id}: {shows}"
        images = _image(pictures, pictures.photo, "") + _image(pictures, layer.file, words, 'class="layer" ')
        parts.append(_figure(row, layer.column, images))
    tags = "".join(_swatch(tag, class_names) for tag in row.tags)
    return (
        f'<article class="row" data-name="{name}" data-group="{row.group}" data-rank="{row.rank}" '
        f'data-quality="{row.quality:.6f}" data-classes="{" ".join(map(str, row.tags))}">\n'
        f'<header><b>{name}</b><span class="faint">{escape(f"{row.rank}: {row.remark}")}</span>'
        f'<span class="tags">{tags}</span></header>\n'
        f'<div class="panels" style="--columns:{len(parts)}">\n{"".join(parts)}</div></article>\n'
    )


def _figure(row: GalleryRow, column: str, images: str) -> str:
    figure = f" <b>{escape(row.figures[column])}</b>" if column in row.figures else ""
    return f'<figure><div class="stack">{images}</div><figcaption>{COLUMNS[column]}{figure}</figcaption></figure>\n'


def _image(pictures: Pictures, file: str, words: str, extra: str = "") -> str:
    return (
        f'<img {extra}src="images/{quote(file)}" alt="{escape(words)}" width="{pictures.width}" '
        f'height="{pictures.height}" loading="lazy">'
    )


def _swatch(index: int, class_names: Sequence[str]) -> str:
    red, green, blue = (int(value) for value in PALETTE[index])
    return f'<span><i style="background:rgb({red},{green},{blue})"></i>{escape(_class_name(index, class_names))}</span>'


def _class_name(index: int, class_names: Sequence[str]) -> str:
    return "unsure" if index == IGNORE else class_names[index]
