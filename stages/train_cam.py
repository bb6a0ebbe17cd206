"""Make class activation maps from image-level tags, and seeds of them.

Reads:  ``data/dataset``, ``data/features``.
Writes: ``data/cam/``: maps of the present classes, weights of the classifier if one is trained, and as palette PNGs labels
(every pixel decided at the threshold; `seed.miou` is theirs) and seeds (the same with 255 near the threshold; what WeakCLIP
learns from).
Params: ``cam``, ``seed``. The encoder is named by the features.
Costs:  reading the whole views of the features; 22 s for the mini world on two cores.

Changing a threshold neither retrains nor makes the maps anew: classifier, curves and maps are taken from the resume slot.
Changing how maps are spread makes them anew from the same classifier.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages._cli import run
from weakclip.cam.classifier import CamClassifier
from weakclip.cam.fitting import CamTraining, VisualEmbeddings, fit_classifier, tag_precision
from weakclip.cam.imported import Spread, check_folder, has_maps, imported_maps, imported_masks
from weakclip.cam.inference import AttentionSpread, Source, image_maps, spread_of_photo
from weakclip.cam.seeds import Thresholds, label_pixels, make_seed, resize_maps
from weakclip.cam.sources import CalibratedMaps, ClassifierMaps, GradCamMaps
from weakclip.cam.stored import StoredTokens, block_before
from weakclip.cam.texts import class_texts
from weakclip.cam.thresholds import ClassMaps, count_values, fixed_thresholds, mixture_thresholds
from weakclip.clip.attention import LastBlocks
from weakclip.clip.calibration import CalibratedEncoder
from weakclip.clip.image_encoder import VisualProjection
from weakclip.clip.model import Clip, load_same_clip
from weakclip.datasets.index import Dataset, Record, read_dataset
from weakclip.device import device
from weakclip.errors import WeakClipError
from weakclip.evaluation import mask_quality
from weakclip.features.store import FeatureStore
from weakclip.masks import write_mask
from weakclip.params import Params, load
from weakclip.progress import close_with, track
from weakclip.ranks import leave_to_main, world
from weakclip.resume import ResumeSlot, fingerprint, import_closure
from weakclip.runlog import StepLog, write_metrics
from weakclip.scores import ScoreStore, ScoreWriter
from weakclip.seeding import seed_torch
from weakclip.selection import Selection
from weakclip.weights import save_weights
from weakclip.workers import workers

THRESHOLDS = {"threshold", "background_threshold", "unsure_margin"}
SPREADING = {"affinity_blocks", "affinity_box_threshold"}


def main(
    params: Path = Path("params.yaml"),
    dataset: Path = Path("data/dataset"),
    features: Path = Path("data/features"),
    out: Path = Path("data/cam"),
    metrics: Path = Path("data/results/train_cam/metrics.json"),
    plots: Path = Path("data/results/train_cam/plots"),
) -> None:
    """Train the CAM classifier, or whatever makes the maps, and make seeds."""
    p = load(params)
    index = read_dataset(dataset)
    described = Path(p.cam.descriptions) if p.cam.descriptions and p.cam.source != "import" else None
    if described is not None and not described.is_file():
        raise WeakClipError(f"{described} is missing", "put it there, or leave cam.descriptions empty")
    inputs = [dataset, features / "index.json", *([described] if described is not None else [])]
    source = p.cam.model_dump(mode="json", exclude=THRESHOLDS | SPREADING)
    code = import_closure(Path(__file__), Path(__file__).parents[1])
    key = fingerprint(stage="train_cam", params={"seed": p.seed, **source}, inputs=inputs, code=code)
    slot = ResumeSlot.open("train_cam", key)
    cam = slot.folder / "cam"
    for folder in (cam / "seeds", cam / "labels", slot.folder / "plots"):
        folder.mkdir(parents=True, exist_ok=True)
    figures: dict[str, dict[str, object]] = {}
    if p.cam.source == "import":
        thresholds = import_seeds(p, index, FeatureStore(features) if p.cam.affinity_blocks else None, cam)
    else:
        figures |= draw_maps(p, index, FeatureStore(features), slot.folder, plots)
        thresholds = write_seeds(p, index, ScoreStore(slot.folder / "maps"), cam)
        slot.publish("maps", cam / "cams")
    quality = mask_quality(index.training, cam / "labels", index.classes.num_classes, workers())
    figures["seed"] = {**quality, "source": p.cam.source, "scales": p.cam.scales, "flip": p.cam.flip, "crf": False}
    if p.cam.threshold == "mixture":
        figures["seed"]["thresholds"] = {
            name: asdict(thresholds[number]) for number, name in enumerate(index.classes.names, start=1)
        }
    write_metrics(metrics, figures)
    slot.publish("cam", out)
    # A copy, for the curves stay with the classifier that the next run may find.
    shutil.rmtree(slot.folder / "curves", ignore_errors=True)
    shutil.copytree(slot.folder / "plots", slot.folder / "curves")
    slot.publish("curves", plots)
    slot.close(keep=["state.pt", "plots", "maps"])
    tags = f"tag mAP {figures['tags']['map']}  " if "tags" in figures else ""
    measured = f"{quality['miou']} mIoU" if "miou" in quality else "without true masks"
    close_with(f"{tags}seed {measured}", out)


def import_seeds(p: Params, index: Dataset, store: FeatureStore | None, cam: Path) -> Thresholds:
    """Seeds of another method, at photo size; returns the thresholds of those that come as maps. Ranks share them; only the
    main one returns. ``store``: where the tokens are by whose attention the maps are spread."""
    folder, num_classes = Path(p.cam.import_folder), index.classes.num_classes
    check_folder(folder, index.training, spread=store is not None)
    spread = None if store is None else spread_imported(p, store)
    values = (imported_maps(record, folder, num_classes, spread) for record in index.training if has_maps(record, folder))
    thresholds = choose_thresholds(p, num_classes - 1, values)
    records = world().share(index.training)
    for record in track(records, total=len(records), title="importing seeds"):
        labels, seed = imported_masks(record, folder, num_classes, thresholds, spread)
        write_mask(cam / "labels" / f"{record.image_id}.png", labels)
        write_mask(cam / "seeds" / f"{record.image_id}.png", seed)
    leave_to_main()
    return thresholds


def spread_imported(p: Params, store: FeatureStore) -> Spread:
    """What spreads the maps of another method by attention."""
    spread_by = attention_spread(p, clip_of(store), store)
    assert spread_by is not None  # there is something to spread by

    def spread(record: Record, maps: NDArray[np.float32]) -> NDArray[np.float32]:
        found = spread_of_photo(torch.from_numpy(maps), store.whole_rows(record.image_id), spread_by)
        return np.asarray(found.numpy(), np.float32)

    return spread


def clip_of(store: FeatureStore) -> Clip:
    """The CLIP that the features are of."""
    attributes = store.attributes
    return load_same_clip(attributes["model"], attributes["weights"], attributes["weights_hash"], "data/features")


def choose_thresholds(p: Params, num_foreground: int, values: Iterable[ClassMaps]) -> Thresholds:
    """Those of the parameters, or of the values of all images' maps."""
    if p.cam.threshold == "fixed":
        return fixed_thresholds(num_foreground, p.cam.background_threshold, p.cam.unsure_margin)
    return mixture_thresholds(count_values(values, num_foreground))


def draw_maps(p: Params, index: Dataset, store: FeatureStore, folder: Path, plots: Path) -> dict[str, dict[str, object]]:
    """Writes the maps of all images into ``folder/maps``; returns the figures of the classifier, if that is the source.

    Ranks do it together. ``plots``: where the curves of its training are shown.
    """
    clip = clip_of(store)
    texts = class_texts(
        clip,
        index.classes,
        template=p.cam.template,
        descriptions=p.cam.descriptions,
        description_clusters=p.cam.description_clusters,
        seed=p.seed,
    )
    spread_by = attention_spread(p, clip, store)  # first, for it may ask for more than the cache holds
    figures: dict[str, dict[str, object]] = {}
    source: Source
    if p.cam.source == "classifier":
        source, figures["tags"] = train_classifier(p, index, clip, texts, store, folder, plots)
    else:
        source = training_free(p, clip, texts, len(index.classes.names), store)
    card = {"kind": "class activation maps", "source": p.cam.source, **p.cam.model_dump(mode="json", include=SPREADING)}
    writer = ScoreWriter(folder / "maps", [record.image_id for record in index.training], card, dtype="<f4")
    records = Selection(index.training, writer.missing.places)
    maps = image_maps(records, StoredTokens(store, store.blocks[-1], device()), source, spread_by)
    for record, found in track(maps, total=len(records), title="maps"):
        writer.write(record.image_id, record.tags, found.numpy())
    writer.finish()
    return figures


def train_classifier(
    p: Params, index: Dataset, clip: Clip, texts: Tensor, store: FeatureStore, folder: Path, plots: Path
) -> tuple[ClassifierMaps, dict[str, object]]:
    """Trains the classifier and writes its weights into the folder; returns it and its figures: tag mAP in percent.

    ``texts``: unit text embeddings (T, E), the classes first. ``plots``: where its curves are shown as they grow.
    """
    seed_torch(p.seed, "cam")
    classifier = CamClassifier(texts, len(index.classes.names), p.cam.temperature)
    embeddings = VisualEmbeddings(store, VisualProjection(clip))
    settings = CamTraining(
        iterations=p.cam.iterations, batch_size=p.cam.batch_size, lr=p.cam.lr, weight_decay=p.cam.weight_decay
    )
    log = StepLog(folder / "plots", shown=plots)
    fit_classifier(classifier, embeddings, index.training, settings, seed=p.seed, folder=folder, log=log)
    log.close()
    card = {"kind": "cam classifier", "classes": list(index.classes.names), "model": clip.model, "encoder": clip.weights_hash}
    if world().main:
        save_weights(folder / "cam", "classifier", classifier.state_dict(), card)
    precision = round(100 * tag_precision(classifier, embeddings, index.training), 2)
    return ClassifierMaps(classifier, embeddings), {"map": precision}


def training_free(p: Params, clip: Clip, texts: Tensor, num_foreground: int, store: FeatureStore) -> Source:
    """The sources that train nothing, on this process's device. ``texts``: (T, E), the ``num_foreground`` classes first."""
    place = device()
    clip.network.visual.to(place)
    texts = texts.to(place)
    if p.cam.source == "gradcam":
        after = block_before(store, clip.depth, 1, "cam.source gradcam")
        stored = StoredTokens(store, after, place)
        return GradCamMaps(clip, stored, LastBlocks(clip, after), texts, num_foreground, p.cam.temperature)
    count = p.cam.calibrated_blocks
    after = block_before(store, clip.depth, count, f"cam.calibrated_blocks {count}")
    return CalibratedMaps(StoredTokens(store, after, place), CalibratedEncoder(clip, count, after), texts, num_foreground)


def attention_spread(p: Params, clip: Clip, store: FeatureStore) -> AttentionSpread | None:
    """What spreads maps by attention, if that is on."""
    count = p.cam.affinity_blocks
    if count == 0:
        return None
    after = block_before(store, clip.depth, count, f"cam.affinity_blocks {count}")
    blocks = LastBlocks(clip, after).to(device())
    return AttentionSpread(StoredTokens(store, after, device()), blocks, count, p.cam.affinity_box_threshold)


def write_seeds(p: Params, index: Dataset, maps: ScoreStore, cam: Path) -> Thresholds:
    """Labels and seeds of all images from their maps; returns the thresholds. Ranks share them; only the main one returns."""
    values = (maps.read(record.image_id) for record in index.training)
    thresholds = choose_thresholds(p, len(index.classes.names), values)
    records = world().share(index.training)
    for record in track(records, total=len(records), title="seeds"):
        full = resize_maps(maps.read(record.image_id)[1], record.height, record.width)
        write_mask(cam / "labels" / f"{record.image_id}.png", label_pixels(full, record.tags, thresholds))
        write_mask(cam / "seeds" / f"{record.image_id}.png", make_seed(full, record.tags, thresholds))
    leave_to_main()
    return thresholds


if __name__ == "__main__":
    run(main)
