"""Measure the retrained DeepLab on the validation images and write the report page.

Reads:  ``data/dataset`` with its photos and true masks (where there are any), ``data/deeplab``, and of the earlier stages
``data/cam``, ``data/masks`` and their metrics.
Writes: ``data/results/evaluate/``: figures, predictions, a few photos with their masks (for `dvc plots`), the report.
Params: ``evaluate``.
Costs:  a DeepLab forward for each validation photo, scale and mirror; 18 s for the mini world on two cores.
"""

import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from stages._cli import run
from weakclip.crf import CrfKernel
from weakclip.datasets.index import Dataset, Record, read_dataset
from weakclip.deeplab.prediction import load_deeplab, predict_probabilities
from weakclip.evaluation import (
    Confusion,
    changed_shares,
    class_rows,
    confusion_rows,
    count_records,
    mean_iou,
    percent,
    score_records,
    tag_recall,
)
from weakclip.gallery import Choice, Maps, Ranking, gallery_images, picture_side, spread, write_overlay, write_pictures
from weakclip.image_figures import ImageFigures
from weakclip.params import load
from weakclip.progress import bytes_in, say, size
from weakclip.ranks import leave_to_main
from weakclip.report.gallery import GalleryRow
from weakclip.report.page import Report, write_report
from weakclip.report.quality import StageFigures, conditions, deltas
from weakclip.resume import ResumeSlot, fingerprint, import_closure
from weakclip.runlog import read_metrics, write_metrics, write_rows
from weakclip.scores import ScoreStore
from weakclip.validation import mean, predict_masks
from weakclip.workers import workers

MEASURED_BY = {"seed": "train_cam", "pseudo": "generate_masks", "refined": "refine_masks"}
RANKED = ("refined", "val")  # stages whose masks the gallery's images are chosen by
OVERLAYS = 4  # photos of each kind for `dvc plots`
FILES = ("metrics.json", "class_iou.json", "confusion.json", "quality.json", "predictions", "overlays", "report")


def main(
    params: Path = Path("params.yaml"),
    dataset: Path = Path("data/dataset"),
    deeplab: Path = Path("data/deeplab"),
    cams: Path = Path("data/cam/cams"),
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
    predicted = slot.folder / "gallery"
    sure = {choice.record.image_id: confidence[choice.record.image_id] for choice in choices if choice.record.split == "val"}
    sure |= predict_masks(chosen, predict, predicted, slot.folder / "gallery.jsonl", kernel)
    masks["training"] = predicted
    labelled = [record for record in chosen if record.mask is not None]
    image_iou |= score_chosen(labelled, masks, confusions, index.classes.num_classes)
    for name in ("report", "overlays"):
        shutil.rmtree(slot.folder / name, ignore_errors=True)
    store = ScoreStore(cams) if cams.is_dir() else None  # imported seeds come without maps
    gallery = draw_gallery(choices, masks, store, image_iou, sure, slot.folder / "report" / "images")
    draw_overlays(index, masks, slot.folder / "overlays")
    write_figures(slot.folder, index, stages, confusions, gallery)
    for name in FILES:
        slot.publish(name, out / name)
    slot.close()
    print_table(stages, known_without_masks(stages))
    say(f"  wrote {out} ({size(bytes_in(out))}); report: {out / 'report' / 'index.html'}")


def read_block(results: Path, stage: str) -> Mapping[str, object]:
    """The figures of an earlier stage's masks, from its metrics file."""
    block = read_metrics(results / MEASURED_BY[stage] / "metrics.json", MEASURED_BY[stage]).get(stage, {})
    return block if isinstance(block, dict) else {}


def measure(index: Dataset, masks: Mapping[str, Path]) -> tuple[dict[str, Confusion], dict[str, ImageFigures[float]]]:
    """By stage, where there are true masks: counts over all images, and of those that images are ranked by each one's IoU."""
    confusions, image_iou = {}, {}
    for stage, folder in masks.items():
        if labelled := index.labelled("val" if stage == "val" else "train"):
            if stage in RANKED:
                confusions[stage], image_iou[stage] = score_records(labelled, folder, index.classes.num_classes, workers())
            else:
                confusions[stage] = count_records(labelled, folder, index.classes.num_classes, workers())
    return confusions, image_iou


def score_chosen(
    labelled: Sequence[Record], masks: Mapping[str, Path], confusions: Mapping[str, Confusion], num_classes: int
) -> dict[str, ImageFigures[float]]:
    """The IoU of the gallery's training images in the stages of which `measure` kept none."""
    stages = [stage for stage in masks if stage == "training" or (stage in confusions and stage not in RANKED)]
    return {stage: score_records(labelled, masks[stage], num_classes)[1] for stage in stages}


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
        changed = changed_shares(index.training, masks["pseudo"], masks["refined"], index.classes.num_classes, workers())
        training = Ranking(name="changed by refinement", scores=changed, large_is_good=False)
    val = Ranking(name="IoU", scores=image_iou.get("val", {}))
    return training, val if val.scores else Ranking(name="mean confidence", scores=confidence)


def draw_gallery(
    choices: Sequence[Choice],
    masks: Mapping[str, Path],
    maps: ScoreStore | None,
    image_iou: Mapping[str, Mapping[str, float]],
    confidence: Mapping[str, float],
    images: Path,
) -> tuple[GalleryRow, ...]:
    """Write the gallery's pictures: photo, DeepLab and truth of val images; of training images all stages' as well.

    ``masks`` and ``image_iou``: by stage, and as ``training`` those of DeepLab for training images.
    """
    of_val = sum(choice.record.split == "val" for choice in choices)
    side = picture_side(len(choices), 2 * of_val + 6 * (len(choices) - of_val))
    rows = []
    for choice in choices:
        record = choice.record
        group = "val" if record.split == "val" else "train"
        of_column = {"deeplab": "val"} if group == "val" else {**{stage: stage for stage in MEASURED_BY}, "deeplab": "training"}
        files = {column: masks[stage] / f"{record.image_id}.png" for column, stage in of_column.items()}
        cam = None
        if maps is not None and group == "train":
            classes, values = maps.read(record.image_id)
            cam = Maps(classes=tuple(classes.tolist()), values=values)
        figures = {
            column: f"{100 * image_iou[stage][record.image_id]:.1f}"
            for column, stage in of_column.items()
            if record.image_id in image_iou.get(stage, {})
        }
        if not figures:
            figures = {"deeplab": f"{100 * confidence[record.image_id]:.0f} % sure"}
        rows.append(
            GalleryRow(
                image_id=record.image_id,
                group=group,
                rank=choice.rank,
                quality=choice.score if choice.ranking.large_is_good else -choice.score,
                remark=f"{choice.ranking.name} {100 * choice.score:.1f} %",
                tags=record.tags,
                pictures=write_pictures(record, files | {"truth": record.mask}, cam, images, side),
                figures=figures,
            )
        )
    return tuple(rows)


def draw_overlays(index: Dataset, masks: Mapping[str, Path], folder: Path) -> None:
    """Write a few photos with their refined mask or DeepLab's: the same photos whatever the parameters, to be compared."""
    folder.mkdir(parents=True, exist_ok=True)
    for stage, name, records in (("refined", "refined", index.training), ("val", "deeplab", index.val)):
        for record in spread(records, OVERLAYS):
            write_overlay(record, masks[stage] / f"{record.image_id}.png", folder / f"{name}_{record.image_id}.png")


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
        ("refined", "changed"): "pixels changed by refinement",
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
