"""The report's figures by stage: how good its masks are, what it was measured on, and the difference to the stage before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from weakclip.report.thresholds import threshold_table

STAGES: Final = {"seed": "CAM seed", "pseudo": "pseudo mask", "refined": "refined mask", "val": "DeepLab"}
COUNTING: Final = (
    "Intersection over union of a class is the number of its pixels that were found, over the number of pixels that are of the "
    "class or were taken for it. Both are summed over all images before they are divided, as PASCAL VOC does it, and the mean "
    "is over the background and the classes that occur. Pixels whose true class is 255 (a border, or unknown) are left out; "
    "pixels that a mask leaves unsure count as wrong.",
    "Seeds, pseudo masks and refined masks are of training images, whose tags were known; DeepLab is measured on validation "
    "images, of which it knows nothing. Its difference to the refined masks is therefore one of images, too.",
    "<i>train</i> and <i>trainaug</i> are never put together: a figure of trainaug is of the images that it adds to train.",
)


@dataclass(frozen=True, kw_only=True)
class StageFigures:
    """One product of the pipeline: ``stage`` (seed, pseudo, refined, val) and the block of its metrics file."""

    stage: str
    block: Mapping[str, object]


def conditions(block: Mapping[str, object]) -> str:
    """What a mIoU was measured on and with: ``600 train images, scale 1, mirrored too, with CRF``."""
    parts = [f"{block['n']:,} {block['split']} images"]
    if block.get("source") == "import":
        parts.append("seeds of another method")
    scales = block.get("scales")
    if isinstance(scales, list | tuple) and scales:
        parts.append(f"scale{'s' if len(scales) > 1 else ''} {' '.join(f'{scale:g}' for scale in scales)}")
    if "flip" in block:
        parts.append("mirrored too" if block["flip"] else "not mirrored")
    if block.get("algorithm") == "par":
        parts.append("with PAR")
    elif "crf" in block:
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


def quality_section(stages: Sequence[StageFigures], without_masks: Mapping[str, float]) -> str:
    """A card for each figure; where there are no true masks, for what can be known without them."""
    measured = deltas(stages)
    cards = "".join(_stage_card(*row) for row in measured)
    known = "".join(_card(name, f"{value:.1f} %", "") for name, value in without_masks.items())
    parts = ["<h2>Quality by stage</h2>\n"]
    if cards:
        note = "Mean intersection over union (mIoU) in percent, background included; each difference is to the stage before."
        if not any(stage.stage == "val" for stage, _, _ in measured):
            note += " The validation images have no true masks, so there is no figure for the network itself."
        counting = "".join(f"<p>{paragraph}</p>\n" for paragraph in COUNTING)
        parts.append(f'<p>{note}</p>\n<div class="cards">\n{cards}</div>\n')
        parts.append(f"<details>\n<summary>How these figures are counted</summary>\n{counting}</details>\n")
    else:
        parts.append("<p>There are no true masks, so no mIoU. What can be known without them:</p>\n")
    if known:
        between = "<h3>Known without true masks</h3>\n" if cards else ""
        parts.append(f'{between}<div class="cards small">\n{known}</div>\n')
    parts += [threshold_table(stage.block) for stage in stages if stage.stage == "seed"]
    return "".join(parts)


def _stage_card(stage: StageFigures, value: float, delta: float | None) -> str:
    change = "" if delta is None else f'<span class="{"up" if delta >= 0 else "down"}">{delta:+.1f}</span>'
    note = conditions(stage.block)
    augmented = stage.block.get("miou_trainaug")
    if isinstance(augmented, int | float):
        note += f"; {augmented:.1f} on {stage.block['n_trainaug']:,} trainaug images"
    return _card(STAGES[stage.stage], f"{value:.1f}{change}", note)


def _card(name: str, value: str, note: str) -> str:
    small = f"<small>{escape(note)}</small>" if note else ""
    return f'<div class="card">{escape(name)}<b>{value}</b>{small}</div>\n'
