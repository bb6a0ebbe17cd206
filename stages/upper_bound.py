"""Train the same DeepLab on the true masks: what the pipeline's masks could reach at best.

Not a stage of the pipeline, for it needs masks of the training images. Reads the dataset index with photos and true masks.
Writes the weights and `metrics.json`. Params: deeplab, seed, evaluate.
"""

from functools import partial
from pathlib import Path

from stages import _cli
from weakclip import params as parameters
from weakclip.crf import CrfKernel
from weakclip.datasets.index import Dataset, read_dataset
from weakclip.deeplab.encoders import weights_file
from weakclip.deeplab.examples import with_true_masks
from weakclip.deeplab.prediction import load_deeplab, predict_probabilities
from weakclip.deeplab.recipe import Retraining
from weakclip.deeplab.retraining import retrain
from weakclip.errors import WeakClipError
from weakclip.evaluation import count_records, mean_iou, percent
from weakclip.params_schema import EvaluateParams
from weakclip.progress import say
from weakclip.resume import ResumeSlot, fingerprint, import_closure
from weakclip.runlog import write_metrics
from weakclip.validation import predict_masks
from weakclip.workers import workers


def main(
    params: Path = Path("params.yaml"),
    dataset: Path = Path("data/dataset"),
    out: Path = Path("data/upper_bound"),
) -> None:
    """Train the same DeepLab on the true masks and print its mIoU on the validation images."""
    p = parameters.load(params)
    index = read_dataset(dataset)
    examples, validation = with_true_masks(index.training), with_true_masks(index.val)
    if not examples or not validation:
        problem = f"{dataset} has no true masks of {'validation' if examples else 'training'} images"
        raise WeakClipError(problem, "the upper bound needs masks of both; the pipeline itself needs none")
    key = fingerprint(
        stage="upper_bound",
        params={
            "seed": p.seed,
            **p.deeplab.model_dump(mode="json", exclude={"masks"}),
            "evaluate": p.evaluate.model_dump(mode="json"),
        },
        inputs=[dataset, *filter(None, [weights_file(p.deeplab.encoder_weights)])],
        code=import_closure(Path(__file__), Path(__file__).parents[1]),
    )
    slot = ResumeSlot.open("upper_bound", key)
    settings = Retraining(**p.deeplab.model_dump(exclude={"masks"}))
    deeplab = slot.folder / "deeplab"
    # Nothing is printed of the way there: the figure that counts is taken at the end, as `evaluate` takes it.
    retrain(settings, examples, (), index.classes, seed=p.seed, folder=slot.folder, out=deeplab)
    miou = measure(deeplab, index, p.evaluate, slot.folder)
    crf = p.evaluate.crf.iterations > 0
    conditions = {"split": "val", "n": len(validation), "scales": p.evaluate.scales, "flip": p.evaluate.flip, "crf": crf}
    write_metrics(slot.folder / "metrics.json", {"val": {"miou": miou, **conditions}, "images": len(examples)})
    for name, final in (("deeplab", out / "deeplab"), ("metrics.json", out / "metrics.json")):
        slot.publish(name, final)
    slot.close()
    say(f"  val.miou of full supervision: {miou:.2f} ({len(examples):,} true masks; {len(validation):,} validation images)")


def measure(deeplab: Path, index: Dataset, how: EvaluateParams, folder: Path) -> float:
    """Percent mIoU of a saved DeepLab on the validation images, seen and sharpened as `evaluate` does it; its masks are
    written below ``folder``."""
    predict = partial(predict_probabilities, load_deeplab(deeplab), scales=how.scales, flip=how.flip)
    kernel = CrfKernel(**how.crf.model_dump()) if how.crf.iterations > 0 else None
    records, masks = index.labelled("val"), folder / "predictions"
    predict_masks(records, predict, masks, folder / "predictions.jsonl", kernel)
    confusion = count_records(records, masks, index.classes.num_classes, workers())
    return percent(mean_iou(confusion))


if __name__ == "__main__":
    _cli.run(main)
