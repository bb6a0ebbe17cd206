"""The smallest stage there is, to be killed at every single event: three masks made one by one, two artefacts."""

from pathlib import Path

import numpy as np

from weakclip.journal import Journal, journalled
from weakclip.masks import write_mask
from weakclip.resume import ResumeSlot
from weakclip.runlog import write_metrics

NAMES = ("one", "two", "three")


def main() -> None:
    """Make three masks and count their pixels."""
    slot = ResumeSlot.open("toy", "fingerprint")
    masks = slot.folder / "masks"
    masks.mkdir(exist_ok=True)
    journal = Journal(slot.folder / "done.jsonl")
    for name in NAMES:
        if name not in journal.finished:
            write_mask(masks / f"{name}.png", np.full((8, len(name)), len(name), np.uint8))
            journal.append(name, {"pixels": 8 * len(name)})
    rows = dict(journalled(slot.folder / "done.jsonl"))
    write_metrics(slot.folder / "metrics.json", {name: rows[name]["pixels"] for name in NAMES})
    slot.publish("masks", Path("data/toy/masks"))
    slot.publish("metrics.json", Path("data/toy/metrics.json"))
    slot.close()
