"""Train the classifier on image-level tags and turn its class activation maps into seeds.

Reads:  ``data/dataset``, ``data/features``.
Writes: ``data/cam/``: classifier weights, maps of the present classes, and as palette PNGs labels (every pixel decided at the
threshold; `seed.miou` is theirs) and seeds (the same with 255 near the threshold; what WeakCLIP learns from).
Params: ``cam``, ``seed``. The encoder is named by the features.
Costs:  reading the whole views of the features; 22 s for the mini world on two cores.

Changing a threshold does not retrain: the classifier and its curves are taken from the resume slot.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from stages._cli import run
from weakclip.cam.classifier import CamClassifier
from weakclip.cam.fitting import CamTraining, VisualEmbeddings, all_maps, fit_classifier, tag_precision
from weakclip.cam.imported import check_folder, imported_seed
from weakclip.cam.seeds import make_seed, resize_maps
from weakclip.clip.image_encoder import VisualProjection
from weakclip.clip.model import load_same_clip
from weakclip.clip.prompts import background_phrases, describe, photo_of
from weakclip.clip.text_encoder import encode_texts
from weakclip.datasets.index import Dataset, read_dataset
from weakclip.evaluation import mask_quality
from weakclip.features.store import FeatureStore
from weakclip.masks import write_mask
from weakclip.params import Params, load
from weakclip.progress import close_with, track
from weakclip.ranks import leave_to_main, world
from weakclip.resume import ResumeSlot, fingerprint, import_closure
from weakclip.runlog import StepLog, write_metrics
from weakclip.scores import ScoreWriter
from weakclip.seeding import seed_torch
from weakclip.weights import save_weights
from weakclip.workers import workers


def main(
    params: Path = Path("params.yaml"),
    dataset: Path = Path("data/dataset"),
    features: Path = Path("data/features"),
    out: Path = Path("data/cam"),
    metrics: Path = Path("data/results/train_cam/metrics.json"),
    plots: Path = Path("data/results/train_cam/plots"),
) -> None:
    """Train the CAM classifier and make seeds."""
    p = load(params)
    index = read_dataset(dataset)
    training = p.cam.model_dump(mode="json", exclude={"background_threshold", "unsure_margin"})
    code = import_closure(Path(__file__), Path(__file__).parents[1])
    key = fingerprint(
        stage="train_cam", params={"seed": p.seed, **training}, inputs=[dataset, features / "index.json"], code=code
    )
    slot = ResumeSlot.open("train_cam", key)
    cam = slot.folder / "cam"
    for folder in (cam / "seeds", cam / "labels"):
        folder.mkdir(parents=True, exist_ok=True)
    (slot.folder / "plots").mkdir(exist_ok=True)
    figures: dict[str, dict[str, object]] = {}
    if p.cam.source == "import":
        import_seeds(p, index, cam)
    else:
        figures["tags"] = {"map": classify(p, index, FeatureStore(features), slot.folder)}
    quality = mask_quality(index.training, cam / "labels", index.classes.num_classes, workers())
    figures["seed"] = {**quality, "source": p.cam.source, "scales": p.cam.scales, "flip": p.cam.flip, "crf": False}
    write_metrics(metrics, figures)
    slot.publish("cam", out)
    # A copy, for the curves stay with the classifier that the next run may find.
    shutil.rmtree(slot.folder / "curves", ignore_errors=True)
    shutil.copytree(slot.folder / "plots", slot.folder / "curves")
    slot.publish("curves", plots)
    slot.close(keep=["state.pt", "plots"])
    tags = f"tag mAP {figures['tags']['map']}  " if "tags" in figures else ""
    close_with(f"{tags}seed {quality.get('miou', 'without true masks')}", out)


def import_seeds(p: Params, index: Dataset, cam: Path) -> None:
    """Seeds of another method, at photo size. Ranks share them; only the main one returns."""
    folder = Path(p.cam.import_folder)
    check_folder(folder, index.training)
    records = world().share(index.training)
    for record in track(records, total=len(records), title="importing seeds"):
        for name, margin in (("labels", 0.0), ("seeds", p.cam.unsure_margin)):
            seed = imported_seed(record, folder, index.classes.num_classes, p.cam.background_threshold, margin)
            write_mask(cam / name / f"{record.image_id}.png", seed)
    leave_to_main()


def classify(p: Params, index: Dataset, store: FeatureStore, folder: Path) -> float:
    """Trains the classifier, writes weights, maps and seeds into the folder; returns the tag mAP in percent.

    Ranks do it together; only the main one returns.
    """
    clip = load_same_clip(
        store.attributes["model"], store.attributes["weights"], store.attributes["weights_hash"], "data/features"
    )
    names = [describe(name, others) for name, others in zip(index.classes.names, index.classes.synonyms, strict=True)]
    texts = encode_texts(clip, [photo_of(phrase) for phrase in (*names, *background_phrases(index.classes.background_words))])
    seed_torch(p.seed, "cam")
    classifier = CamClassifier(texts, len(names), p.cam.temperature)
    embeddings = VisualEmbeddings(store, VisualProjection(clip))
    settings = CamTraining(
        iterations=p.cam.iterations, batch_size=p.cam.batch_size, lr=p.cam.lr, weight_decay=p.cam.weight_decay
    )
    log = StepLog(folder / "plots")
    fit_classifier(classifier, embeddings, index.training, settings, seed=p.seed, folder=folder, log=log)
    log.close()
    writer = ScoreWriter(
        folder / "cam" / "cams", [record.image_id for record in index.training], {"kind": "class activation maps"}
    )
    todo = set(writer.missing)
    records = [record for record in index.training if record.image_id in writer.own]
    for record, maps in track(all_maps(classifier, embeddings, records), total=len(records), title="maps"):
        if record.image_id in todo:
            writer.write(record.image_id, record.tags, maps.numpy())
        full = resize_maps(maps.numpy(), record.height, record.width)
        for name, margin in (("labels", 0.0), ("seeds", p.cam.unsure_margin)):
            seed = make_seed(full, record.tags, p.cam.background_threshold, margin)
            write_mask(folder / "cam" / name / f"{record.image_id}.png", seed)
    writer.finish()
    leave_to_main()
    card = {"kind": "cam classifier", "classes": list(index.classes.names), "model": clip.model, "encoder": clip.weights_hash}
    save_weights(folder / "cam", "classifier", classifier.state_dict(), card)
    return round(100 * tag_precision(classifier, embeddings, index.training), 2)


if __name__ == "__main__":
    run(main)
