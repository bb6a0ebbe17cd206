"""Measure the retrained DeepLab on the validation images and write the report page.

Reads the DeepLab, the dataset index with its photos and true masks (where there are any), the masks of the earlier stages and
their metrics. Writes predictions, figures and the report. Params: evaluate.
"""

import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from stages._cli import run
from weakclip.crf import CrfKernel
from weakclip.datasets.index import Dataset, read_dataset
from weakclip.deeplab.prediction import load_deeplab, predict_probabilities
from weakclip.evaluation import (
    Confusion,
    agreement,
    class_rows,
    confusion_rows,
    mean_iou,
    percent,
    score_records,
    tag_recall,
)
from weakclip.gallery import Choice, Ranking, gallery_images, thumbnail_side, write_panels
from weakclip.params import load
from weakclip.progress import say
from weakclip.ranks import leave_to_main
from weakclip.report import GalleryRow, Report, StageFigures, conditions, deltas, write_report
from weakclip.resume import ResumeSlot, fingerprint, import_closure
from weakclip.runlog import read_metrics, write_metrics, write_rows
from weakclip.validation import mean, predict_masks
from weakclip.workers import workers

MEASURED_BY = {"seed": "train_cam", "pseudo": "generate_masks", "refined": "refine_masks"}


def main(
    params: Path = Path("params.yaml"),
    dataset: Path = Path("data/dataset"),
    deeplab: Path = Path("data/deeplab"),
    seeds: Path = Path("data/cam/labels"),
    pseudo: Path = Path("data/masks/pseudo"),
    refined: Path = Path("data/masks/refined"),
    results: Path = Path("data/results"),
    out: Path = Path("data/results/evaluate"),
) -> None:
    """Measure the retrained DeepLab on the validation images and write the report page."""
    p = load(params).evaluate
    index = read_dataset(dataset)
    earlier = [StageFigures(stage=stage, block=read_block(results, stage)) for stage in MEASURED_BY]
    code = import_closure(Path(__file__), Path(__file__).parents[1])
    key = fingerprint(stage="evaluate", params=p.model_dump(mode="json"), inputs=[dataset, deeplab], code=code)
    slot = ResumeSlot.open("evaluate", key)
    predict = partial(predict_probabilities, load_deeplab(deeplab), scales=p.scales, flip=p.flip)
    kernel = CrfKernel(**p.crf.model_dump()) if p.crf.iterations > 0 else None
    predictions = slot.folder / "predictions"
    confidence = predict_masks(index.val, predict, predictions, slot.folder / "predictions.jsonl", kernel)
    leave_to_main()

    masks = {"seed": seeds, "pseudo": pseudo, "refined": refined, "val": predictions}
    confusions, image_iou = measure(index, masks)
    val = {
        **val_figures(index, predictions, confusions, confidence),
        "scales": p.scales,
        "flip": p.flip,
        "crf": kernel is not None,
    }
    stages = (*earlier, StageFigures(stage="val", block=val))
    choices = gallery_images(index, *rank(index, masks, image_iou, confidence), p.gallery_size)
    chosen = [choice.record for choice in choices if choice.record.split != "val"]
    predict_masks(chosen, predict, slot.folder / "gallery", slot.folder / "gallery.jsonl", kernel)
    shutil.rmtree(slot.folder / "report", ignore_errors=True)
    gallery = draw_gallery(choices, masks, slot.folder / "gallery", slot.folder / "report" / "images")
    write_figures(slot.folder, index, stages, confusions, gallery)
    for name in ("metrics.json", "class_iou.json", "confusion.json", "quality.json", "predictions", "report"):
        slot.publish(name, out / name)
    slot.close()
    print_table(stages, known_without_masks(stages))
    say(f"  report: {out / 'report' / 'index.html'}")


def read_block(results: Path, stage: str) -> Mapping[str, object]:
    """The figures of an earlier stage's masks, from its metrics file."""
    block = read_metrics(results / MEASURED_BY[stage] / "metrics.json", MEASURED_BY[stage]).get(stage, {})
    return block if isinstance(block, dict) else {}


def measure(index: Dataset, masks: Mapping[str, Path]) -> tuple[dict[str, Confusion], dict[str, dict[str, float]]]:
    """By stage, where there are true masks: counts over all images, and each image's IoU."""
    confusions, image_iou = {}, {}
    for stage, folder in masks.items():
        if labelled := index.labelled("val" if stage == "val" else "train"):
            confusions[stage], image_iou[stage] = score_records(labelled, folder, index.classes.num_classes, workers())
    return confusions, image_iou


def val_figures(
    index: Dataset, predictions: Path, confusions: Mapping[str, Confusion], confidence: Mapping[str, float]
) -> dict[str, object]:
    """The block `val` of the metrics: mIoU only with true masks, the rest with or without."""
    figures: dict[str, object] = {"miou": percent(mean_iou(confusions["val"]))} if "val" in confusions else {}
    figures |= {"split": "val", "n": len(index.labelled("val") or index.val)}
    if index.val:
        figures["confidence"] = percent(mean(list(confidence.values())))
        figures["tag_recall"] = tag_recall(index.val, predictions)
    return figures


def rank(
    index: Dataset, masks: Mapping[str, Path], image_iou: Mapping[str, Mapping[str, float]], confidence: Mapping[str, float]
) -> tuple[Ranking, Ranking]:
    """What the gallery's training and validation images are chosen by: IoU, or what stands in for it without true masks."""
    training = Ranking(name="IoU of the refined mask", scores=image_iou.get("refined", {}))
    if not training.scores:
        agreed = agreement(index.training, masks["pseudo"], masks["refined"], index.classes.num_classes, workers())
        training = Ranking(name="agreement of pseudo and refined mask", scores=agreed)
    val = Ranking(name="IoU", scores=image_iou.get("val", {}))
    return training, val if val.scores else Ranking(name="confidence", scores=confidence)


def draw_gallery(choices: Sequence[Choice], masks: Mapping[str, Path], deeplab: Path, images: Path) -> tuple[GalleryRow, ...]:
    """Write the gallery's pictures: photo, DeepLab, truth of val images; the masks of all stages for training images."""
    side = thumbnail_side(sum(3 if choice.record.split == "val" else 6 for choice in choices))
    rows = []
    for choice in choices:
        record = choice.record
        folders = {"deeplab": masks["val"]}
        if record.split != "val":
            folders = {stage: masks[stage] for stage in MEASURED_BY} | {"deeplab": deeplab}
        files = {column: folder / f"{record.image_id}.png" for column, folder in folders.items()}
        rows.append(
            GalleryRow(
                image_id=record.image_id,
                split=record.split,
                remark=f"{choice.rank}: {choice.ranked_by} {100 * choice.score:.1f} %",
                tags=record.tags,
                panels=write_panels(record, files | {"truth": record.mask}, images, side),
            )
        )
    return tuple(rows)


def write_figures(
    folder: Path,
    index: Dataset,
    stages: Sequence[StageFigures],
    confusions: Mapping[str, Confusion],
    gallery: tuple[GalleryRow, ...],
) -> None:
    """Write the metrics, the tables for plots, and the report page."""
    names = index.classes.with_background
    classes = class_rows(confusions, names)
    confused = confusion_rows(confusions["val"], names) if "val" in confusions else []
    write_metrics(folder / "metrics.json", {"val": stages[-1].block})
    write_rows(folder / "quality.json", [{"stage": stage.stage, "miou": value} for stage, value, _ in deltas(stages)])
    bars = [{"class": row.pop("class"), "iou": row.pop("val"), **row} for row in map(dict, classes) if "val" in row]
    write_rows(folder / "class_iou.json", bars)
    write_rows(folder / "confusion.json", confused)
    report = Report(
        dataset=index.name,
        class_names=names,
        stages=tuple(stages),
        without_masks=known_without_masks(stages),
        class_iou=classes,
        confusions=confused,
        gallery=gallery,
    )
    write_report(report, folder / "report")


def known_without_masks(stages: Sequence[StageFigures]) -> dict[str, float]:
    """Percentages that need no true masks, by what they are."""
    wanted = {
        ("refined", "tag_recall"): "tags found by the refined masks",
        ("refined", "confidence"): "mean confidence of the refined masks",
        ("refined", "changed"): "pixels changed by the CRF",
        ("val", "tag_recall"): "tags found by DeepLab in validation images",
        ("val", "confidence"): "mean confidence of DeepLab in validation images",
    }
    blocks = {stage.stage: stage.block for stage in stages}
    figures = {words: blocks[stage].get(key) for (stage, key), words in wanted.items()}
    return {words: float(value) for words, value in figures.items() if isinstance(value, int | float)}


def print_table(stages: Sequence[StageFigures], known: Mapping[str, float]) -> None:
    """Print a row for each stage with its mIoU and the difference to the one before, or what is known without masks."""
    rows = deltas(stages)
    for stage, value, delta in rows:
        change = "" if delta is None else f"{delta:+.2f}"
        say(f"  {stage.stage:<8} {value:6.2f} mIoU  {change:>7}   {conditions(stage.block)}")
    if len(rows) < len(stages):
        for words, value in known.items():
            say(f"  {value:6.2f} %  {words}")


if __name__ == "__main__":
    run(main)
