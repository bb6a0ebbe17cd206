"""Index the photos: classes, tags, splits and masks where there are any; every file is decoded once and checked.

Reads:  ``data/raw`` (``folder``, ``voc12``, ``coco14``); ``mini`` is drawn.
Writes: ``data/dataset/`` (dataset.json, images.csv, skipped.csv; for ``mini`` images/ and masks/, for ``coco14`` masks/ too).
Params: ``dataset``, ``seed``.
Costs:  decoding every photo, on all cores; 11 s for the mini world on two cores.

An interrupted run begins anew: there is nothing to keep that would take longer to make than to check.
"""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

from stages._cli import run_here
from weakclip.datasets.coco14 import read_coco14
from weakclip.datasets.folder import read_folder
from weakclip.datasets.index import Collection, Dataset, write_dataset
from weakclip.datasets.mini_dataset import draw_mini_dataset
from weakclip.datasets.voc12 import read_voc12
from weakclip.params import Params, load
from weakclip.progress import close_with, say
from weakclip.resume import ResumeSlot, fingerprint
from weakclip.runlog import write_metrics


def main(
    params: Path = Path("params.yaml"),
    raw: Path = Path("data/raw"),
    out: Path = Path("data/dataset"),
    metrics: Path = Path("data/results/prepare_dataset/metrics.json"),
) -> None:
    """Index the photos, their tags, splits and masks."""
    p = load(params)
    settings = {"seed": p.seed, **p.dataset.model_dump(mode="json")}
    slot = ResumeSlot.open("prepare_dataset", fingerprint(stage="prepare_dataset", params=settings, inputs=[], code=[]))
    if (slot.folder / "dataset").exists():
        shutil.rmtree(slot.folder / "dataset")
    collection = collect(p, raw, slot.folder / "dataset", out)
    write_dataset(collection.dataset, slot.folder / "dataset", collection.skipped)
    for note in collection.notes:
        say(f"  note: {note}")
    for item in collection.skipped[:5]:
        say(f"  skipped: {item.reason}")
    figures = count(collection.dataset) | {"skipped": len(collection.skipped)}
    slot.publish("dataset", out)
    write_metrics(metrics, {"dataset": figures | {"tags": count_tags(collection.dataset)}})
    slot.close()
    shares = ", ".join(f"{figures[name]:,} {name}" for name in ("train", "trainaug", "val", "skipped") if name in figures)
    classes = len(collection.dataset.classes.names)
    close_with(f"{p.dataset.name}: {figures['images']:,} images of {classes} classes ({shares})", out)


def collect(p: Params, raw: Path, folder: Path, out: Path) -> Collection:
    """Read, or draw into the folder, the dataset that the parameters name."""
    d = p.dataset
    if d.name == "mini":
        return Collection(
            dataset=draw_mini_dataset(folder, final=out, mini_world=d.mini_world, mini_train=d.mini_train, mini_val=d.mini_val)
        )
    if d.name == "voc12":
        return read_voc12(raw, tags_from=d.tags_from, on_error=d.on_error)
    if d.name == "coco14":
        return read_coco14(raw, folder, final=out, tags_from=d.tags_from, on_error=d.on_error)
    return read_folder(raw, tags_from=d.tags_from, on_error=d.on_error, val_share=d.val_share, seed=p.seed)


def count(dataset: Dataset) -> dict[str, int]:
    """Images of all and of each split; trainaug only where there is one."""
    splits = Counter(record.split for record in dataset.records)
    counts = {"images": len(dataset.records), "train": splits["train"], "trainaug": splits["trainaug"]}
    return {name: number for name, number in counts.items() if number or name != "trainaug"} | {"val": splits["val"]}


def count_tags(dataset: Dataset) -> dict[str, int]:
    """Training images with each class."""
    tags = Counter(tag for record in dataset.training for tag in record.tags)
    return {name: tags[1 + position] for position, name in enumerate(dataset.classes.names)}


if __name__ == "__main__":
    run_here(main)
