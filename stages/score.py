"""Score any folder of masks against any other: not a stage of the pipeline, `weakclip score` runs it.

Reads two folders of mask PNGs (palette or grey, class indices, 255 = ignore). Prints IoU, false positives and false negatives
of every class and their means, counted as the released code of WeakCLIP counts them; writes them as JSON where asked.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from weakclip.datasets.class_lists import class_list
from weakclip.datasets.lists import read_ids
from weakclip.errors import WeakClipError
from weakclip.evaluation import ClassShares, class_shares, mean_over_classes, score_masks
from weakclip.progress import say, track
from weakclip.runlog import write_metrics
from weakclip.workers import workers

COLUMNS = ("iou", "false_positives", "false_negatives")
SAME_NAMES = "masks and true masks of an image have the same file name, <id>.png"


def main(masks: Path, truth: Path, classes: str, images: Path | None = None, out: Path | None = None) -> None:
    """Score the masks of one folder against those of the same names in another."""
    names = class_list(classes).with_background
    ids = paired(masks, truth, images)
    pairs = ((masks / f"{image_id}.png", truth / f"{image_id}.png") for image_id in ids)
    shares = class_shares(score_masks(track(pairs, total=len(ids), title="scoring"), len(names), workers()))
    for line in table(names, shares):
        say(line)
    means = {column: mean_over_classes(getattr(shares, column)) for column in COLUMNS}
    say(f"mIoU {percent(means['iou'])}  FP {percent(means['false_positives'])}  FN {percent(means['false_negatives'])}")
    if out is not None:
        of_classes = {
            name: {column: 100 * getattr(shares, column)[index] for column in COLUMNS} for index, name in enumerate(names)
        }
        figures = {f"mean_{column}": 100 * value for column, value in means.items()}
        write_metrics(out, {"n": len(ids), **figures, "classes": of_classes})


def paired(masks: Path, truth: Path, images: Path | None) -> list[str]:
    """The images to score: those of the list, or all that have a mask in both folders; the user is told which are not."""
    found = {folder: {path.stem for path in folder.glob("*.png")} for folder in (masks, truth)}
    for folder, stems in found.items():
        if not stems:
            raise WeakClipError(f"{folder} holds no PNG", SAME_NAMES)
    if images is not None:
        ids = read_ids(images)
        for folder, stems in found.items():
            missing = [image_id for image_id in ids if image_id not in stems]
            if missing:
                problem = (
                    f"{folder} is missing {len(missing):,} of the {len(ids):,} images of {images} (first: {missing[0]}.png)"
                )
                raise WeakClipError(problem, SAME_NAMES)
        return ids
    ids = sorted(found[masks] & found[truth])
    if not ids:
        raise WeakClipError(f"{masks} and {truth} have no file name in common", SAME_NAMES)
    say(f"scoring {len(ids):,} images")
    for folder, stems in found.items():
        if len(stems) > len(ids):
            say(f"  not scored: {len(stems) - len(ids):,} masks of {folder} that the other folder has none for")
    return ids


def table(names: Sequence[str], shares: ClassShares) -> list[str]:
    """A heading and a line for each class, percent with three decimals as the released code prints them."""
    width = max(len(name) for name in names)
    lines = [f"{'class':>{width}}      IoU       FP       FN"]
    for index, name in enumerate(names):
        lines.append(f"{name:>{width}} " + " ".join(percent(getattr(shares, column)[index]) for column in COLUMNS))
    return lines


def percent(share: float) -> str:
    """A share of 0..1 in percent, right-aligned, a dash where it is not a number."""
    return f"{'-':>8}" if np.isnan(share) else f"{100 * share:8.3f}"
