"""Retrain a DeepLab on the masks, as if they had been drawn by hand.

Reads:  ``data/dataset``, ``data/masks/refined`` or ``gated``, photos; true masks of validation images, where there are any,
only for the curve.
Writes: ``data/deeplab/`` (weights and card).
Params: ``deeplab``, ``seed``.
Costs:  ``deeplab.iterations`` steps; a GPU for ResNets; 178 s for the mini world on two cores.
"""

from pathlib import Path

from stages import _cli
from weakclip import params as parameters
from weakclip.datasets.index import read_dataset
from weakclip.deeplab.encoders import weights_file
from weakclip.deeplab.examples import with_masks_from, with_true_masks
from weakclip.deeplab.recipe import Retraining
from weakclip.deeplab.retraining import retrain
from weakclip.progress import close_with
from weakclip.resume import ResumeSlot, fingerprint, import_closure
from weakclip.runlog import StepLog, write_metrics


def main(
    params: Path = Path("params.yaml"),
    dataset: Path = Path("data/dataset"),
    refined: Path = Path("data/masks/refined"),
    gated: Path = Path("data/masks/gated"),
    out: Path = Path("data/deeplab"),
    metrics: Path = Path("data/results/retrain_deeplab/metrics.json"),
    plots: Path = Path("data/results/retrain_deeplab/plots"),
) -> None:
    """Retrain a DeepLab on the refined or gated masks."""
    p = parameters.load(params)
    index = read_dataset(dataset)
    masks = {"refined": refined, "gated": gated}[p.deeplab.masks]
    settings = Retraining(**p.deeplab.model_dump(exclude={"masks"}))
    key = fingerprint(
        stage="retrain_deeplab",
        params={"seed": p.seed, **p.deeplab.model_dump(mode="json")},
        inputs=[dataset, masks, *filter(None, [weights_file(p.deeplab.encoder_weights)])],
        code=import_closure(Path(__file__), Path(__file__).parents[1]),
    )
    slot = ResumeSlot.open("retrain_deeplab", key)
    log = StepLog(slot.folder / "plots", shown=plots)
    examples = with_masks_from(index.training, masks)
    validation = with_true_masks(index.val)
    figures = retrain(
        settings, examples, validation, index.classes, seed=p.seed, folder=slot.folder, out=slot.folder / "deeplab", log=log
    )
    log.close()
    write_metrics(slot.folder / "metrics.json", {"deeplab": {"masks": p.deeplab.masks, "images": len(examples), **figures}})
    for name, final in (("deeplab", out), ("plots", plots), ("metrics.json", metrics)):
        slot.publish(name, final)
    slot.close()
    closing = f"DeepLab of {len(examples):,} photos"
    if figures:
        closing = f"{figures['val_miou']:.2f} val mIoU at one scale, not mirrored (`evaluate` measures it fully)"
    close_with(closing, out)


if __name__ == "__main__":
    _cli.run(main)
