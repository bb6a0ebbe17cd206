"""Train the same DeepLab on the true masks: what the pipeline's masks could reach at best.

Not a stage of the pipeline, for it needs masks of the training images. Reads the dataset index with photos and true masks.
Writes the weights and `metrics.json`. Params: deeplab, seed, evaluate.
"""

from pathlib import Path

from stages import _cli
from weakclip import params as parameters
from weakclip.datasets.index import read_dataset
from weakclip.deeplab.encoders import weights_file
from weakclip.deeplab.examples import Example, read_example, with_true_masks
from weakclip.deeplab.prediction import load_deeplab, predict_probabilities
from weakclip.deeplab.recipe import Retraining
from weakclip.deeplab.retraining import retrain
from weakclip.errors import WeakClipError
from weakclip.evaluation import mean_iou, percent, score_masks
from weakclip.progress import say, track
from weakclip.resume import ResumeSlot, fingerprint, import_closure
from weakclip.runlog import write_metrics


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
        params={"seed": p.seed, **p.deeplab.model_dump(mode="json", exclude={"masks"})},
        inputs=[dataset, *filter(None, [weights_file(p.deeplab.encoder_weights)])],
        code=import_closure(Path(__file__), Path(__file__).parents[1]),
    )
    slot = ResumeSlot.open("upper_bound", key)
    settings = Retraining(**p.deeplab.model_dump(exclude={"masks"}))
    deeplab = slot.folder / "deeplab"
    # Nothing is printed of the way there: the figure that counts is taken at the end, as `evaluate` takes it.
    retrain(settings, examples, (), index.classes, seed=p.seed, folder=slot.folder, out=deeplab)
    miou = measure(deeplab, validation, index.classes.num_classes, p.evaluate.scales, p.evaluate.flip)
    conditions = {"split": "val", "n": len(validation), "scales": p.evaluate.scales, "flip": p.evaluate.flip, "crf": False}
    write_metrics(slot.folder / "metrics.json", {"val": {"miou": miou, **conditions}, "images": len(examples)})
    for name, final in (("deeplab", out / "deeplab"), ("metrics.json", out / "metrics.json")):
        slot.publish(name, final)
    slot.close()
    say(f"  val.miou of full supervision: {miou:.2f} ({len(examples):,} true masks; {len(validation):,} validation images)")


def measure(deeplab: Path, validation: tuple[Example, ...], num_classes: int, scales: tuple[float, ...], flip: bool) -> float:
    """Percent mIoU of a saved DeepLab, its photos seen as `evaluate` sees them."""
    model = load_deeplab(deeplab)
    read = (read_example(example, num_classes) for example in track(validation, total=len(validation), title="predicting"))
    pairs = (
        (predict_probabilities(model, photo, scales=scales, flip=flip).argmax(axis=0).astype("uint8"), truth)
        for photo, truth in read
    )
    return percent(mean_iou(score_masks(pairs, num_classes)))


if __name__ == "__main__":
    _cli.run(main)
