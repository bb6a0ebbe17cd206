"""Class scores and pseudo masks of the training images: scales, mirrors and sliding windows, fused.

Reads:  ``data/dataset``, ``data/weakclip``, photos.
Writes: ``data/masks/scores/`` (probabilities at photo size), ``data/masks/pseudo/`` (palette PNGs).
Params: ``masks``, ``clip.precision``.
Costs:  an encoder forward for each window of each scale and mirror; two bytes of disk a pixel and class; 60 s for the mini
world on two cores.
"""

from __future__ import annotations

from pathlib import Path

from stages._cli import run
from weakclip.affinity_refinement import affinity_refinement
from weakclip.datasets.index import read_dataset
from weakclip.evaluation import mask_quality, tag_recall
from weakclip.inference import Fusion
from weakclip.network.trained import load_weakclip
from weakclip.params import load
from weakclip.progress import close_with
from weakclip.pseudo_masks import predictor, write_masks
from weakclip.ranks import leave_to_main
from weakclip.resume import ResumeSlot, fingerprint, import_closure
from weakclip.runlog import write_metrics
from weakclip.workers import workers


def main(
    params: Path = Path("params.yaml"),
    dataset: Path = Path("data/dataset"),
    weakclip: Path = Path("data/weakclip"),
    scores: Path = Path("data/masks/scores"),
    pseudo: Path = Path("data/masks/pseudo"),
    metrics: Path = Path("data/results/generate_masks/metrics.json"),
) -> None:
    """Predict class scores and pseudo masks."""
    loaded = load(params)
    p, precision = loaded.masks, loaded.clip.precision
    index = read_dataset(dataset)
    trained = load_weakclip(weakclip, precision)
    rows = trained.rows_of(index.classes)
    fusion = Fusion(
        scales=p.scales,
        flip=p.flip,
        base_size=p.base_size,
        window=trained.image_size,
        stride=p.stride,
        patch=trained.encoder.patch,
        multiple=trained.multiple,
        resize=trained.resize,
    )
    settings = p.model_dump(mode="json")
    code = import_closure(Path(__file__), Path(__file__).parents[1])
    slot = ResumeSlot.open(
        "generate_masks",
        fingerprint(stage="generate_masks", params=settings | {"precision": precision}, inputs=[dataset, weakclip], code=code),
    )
    predict = predictor(trained.model, trained.encoder, affinity_refinement(p.affinity_blocks, p.affinity_share))
    attributes = {"kind": "class scores", "weakclip": trained.weights_sha256, **settings}
    write_masks(
        index.training,
        predict,
        trained.classes.num_classes,
        fusion,
        slot.folder / "scores",
        slot.folder / "pseudo",
        attributes,
        tag_filter=p.tag_filter,
        share_absent=p.share_absent,
        rows=rows,
    )
    leave_to_main()
    quality = mask_quality(index.training, slot.folder / "pseudo", index.classes.num_classes, workers())
    recall = tag_recall(index.training, slot.folder / "pseudo")
    write_metrics(metrics, {"pseudo": {**quality, "tag_recall": recall, "scales": p.scales, "flip": p.flip, "crf": False}})
    slot.publish("scores", scores)
    slot.publish("pseudo", pseudo)
    slot.close()
    measured = f"{quality['miou']} mIoU" if "miou" in quality else "without true masks"
    close_with(f"pseudo {measured}  tag recall {recall} %", scores, pseudo)


if __name__ == "__main__":
    run(main)
