"""Sharpen the class scores with a dense CRF, or with PAR, and turn them into refined masks.

Reads:  ``data/dataset``, ``data/masks/scores``, photos.
Writes: ``data/masks/refined/`` and ``data/masks/gated/`` (palette PNGs; gated ones are 255 where the winning class is unsure).
Params: ``crf`` (and ``masks``, whose views the figures are stored with).
Costs:  about 0.4 s of one core for a photo of 375 x 500 pixels and 2 to 3 classes; 25 s for the mini world on two cores.
"""

from dataclasses import asdict
from pathlib import Path

from stages._cli import run
from stages._kernels import mask_kernel
from weakclip.datasets.index import read_dataset
from weakclip.evaluation import mask_quality, percent, tag_recall
from weakclip.params import load
from weakclip.progress import close_with, say
from weakclip.ranks import leave_to_main
from weakclip.refinement import Refinement, refine_all
from weakclip.resume import ResumeSlot, fingerprint, import_closure
from weakclip.runlog import write_metrics
from weakclip.sharpening import processes
from weakclip.workers import workers

SHARPENERS = {"dense_crf": "the CRF", "par": "PAR"}


def main(
    params: Path = Path("params.yaml"),
    dataset: Path = Path("data/dataset"),
    scores: Path = Path("data/masks/scores"),
    refined: Path = Path("data/masks/refined"),
    gated: Path = Path("data/masks/gated"),
    metrics: Path = Path("data/results/refine_masks/metrics.json"),
) -> None:
    """Sharpen the class scores and turn them into refined masks."""
    p = load(params)
    index = read_dataset(dataset)
    refinement = Refinement(kernel=mask_kernel(p.crf), tag_limited=p.crf.tag_limited, gate=p.crf.gate)
    slot = ResumeSlot.open(
        "refine_masks",
        fingerprint(
            stage="refine_masks",
            params=asdict(refinement),
            inputs=[dataset, scores],
            code=import_closure(Path(__file__), Path(__file__).parents[1]),
        ),
    )
    total = refine_all(index.training, scores, slot.folder, refinement, processes(refinement.kernel))
    leave_to_main()
    quality = mask_quality(index.training, slot.folder / "refined", index.classes.num_classes, workers())
    figures = {
        **quality,
        "scales": p.masks.scales,
        "flip": p.masks.flip,
        "crf": p.crf.algorithm == "dense_crf",
        "algorithm": p.crf.algorithm,
        **({"backend": p.crf.backend} if p.crf.algorithm == "dense_crf" else {}),
        "changed": percent(total.changed / total.pixels),
        "confidence": percent(total.confidence / total.pixels),
        "tag_recall": tag_recall(index.training, slot.folder / "refined"),
    }
    kept = percent(total.kept / total.pixels)
    write_metrics(slot.folder / "metrics.json", {"refined": figures, "gated": {"kept": kept}})
    for name, final in (("refined", refined), ("gated", gated), ("metrics.json", metrics)):
        slot.publish(name, final)
    slot.close()
    say(
        f"  {SHARPENERS[p.crf.algorithm]} changed {figures['changed']} % of the pixels; confidence {figures['confidence']} %, "
        f"tag recall {figures['tag_recall']} %, {kept} % of the pixels pass the gate"
    )
    measured = f"refined {quality['miou']} mIoU on {quality['n']:,} labelled train images" if "miou" in quality else ""
    close_with(measured or "refined without true masks", refined, gated)


if __name__ == "__main__":
    run(main)
