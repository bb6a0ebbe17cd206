"""What `benchmarks.growth` measures: the pipeline's steps on tiny images, with stand-ins for the networks."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from benchmarks.samples import draw_mask, draw_photo
from benchmarks.sides import Gate
from benchmarks.sizes import PRESETS
from stages import evaluate, prepare_dataset, refine_masks
from weakclip.datasets.index import read_dataset
from weakclip.datasets.voc12 import CLASSES
from weakclip.features.cache import cache_features
from weakclip.features.plan import ViewRecipe
from weakclip.features.store import FeatureStore
from weakclip.gallery import gallery_images
from weakclip.inference import Fusion
from weakclip.pseudo_masks import write_masks
from weakclip.report.quality import StageFigures
from weakclip.runlog import write_metrics
from weakclip.seeding import rng
from weakclip.validation import predict_masks
from weakclip.workers import workers

HEIGHT: Final = 12
WIDTH: Final = 16
PATCH: Final = 4
KINDS: Final = 64  # different images; the rest repeat them under other names
READS: Final = 1000  # rows of the feature store that are read
SHARD_BYTES: Final = 10**5  # 480 images, about as many as fit into a shard of the real size


def draw(folder: Path, count: int) -> None:
    """A dataset in the `folder` layout with masks, and the parameters of its preset."""
    raw = folder / "data" / "raw"
    for name in ("images", "masks"):
        (raw / name).mkdir(parents=True)
    drawn = [_encoded(number) for number in range(KINDS)]
    with (raw / "tags.csv").open("w", encoding="utf-8") as table:
        table.write("image,tags\n")
        for number in range(count):
            photo, mask, tags = drawn[number % KINDS]
            image_id = f"tiny_{number:08d}"
            (raw / "images" / f"{image_id}.png").write_bytes(photo)
            (raw / "masks" / f"{image_id}.png").write_bytes(mask)
            table.write(f"{image_id},{';'.join(CLASSES.names[tag - 1] for tag in tags)}\n")
    (raw / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES.names), encoding="utf-8")
    shutil.copyfile(PRESETS / "folder.yaml", folder / "params.yaml")


def _encoded(number: int) -> tuple[bytes, bytes, tuple[int, ...]]:
    tags = tuple(sorted({1 + number % 20, 1 + (number + 7) % 20}))
    pictures = []
    for array in (draw_photo(number, HEIGHT, WIDTH), draw_mask(number, HEIGHT, WIDTH, tags)):
        file = io.BytesIO()
        Image.fromarray(array).save(file, format="PNG")
        pictures.append(file.getvalue())
    return pictures[0], pictures[1], tags


class StubEncoder:
    """Tokens that cost nothing."""

    patch: int = PATCH
    blocks: tuple[int, ...] = (0,)
    width: int = 8
    attributes: Mapping[str, object] = {"model": "stub"}

    def __call__(self, images: Tensor) -> Sequence[Tensor]:
        height, width = (side // PATCH for side in images.shape[2:])
        return [torch.ones(len(images), 1 + height * width, self.width)]


def stub_logits(images: Tensor) -> Tensor:
    """Logits (B, K, h / patch, w / patch) with a disc of each class in turn."""
    height, width = (side // PATCH for side in images.shape[2:])
    return torch.eye(CLASSES.num_classes)[: height * width].T.reshape(1, -1, height, width).expand(len(images), -1, -1, -1)


def stub_probabilities(photo: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Of a photo (H, W, 3): all classes alike."""
    return np.full((CLASSES.num_classes, *photo.shape[:2]), 1 / CLASSES.num_classes, np.float32)


def prepare() -> None:
    prepare_dataset.main()


def store() -> None:
    """Features of a whole view of each training image; then a new reader, and some of the rows."""
    records = read_dataset(Path("data/dataset")).training
    recipe = ViewRecipe(
        scales=(1.0,), flip=False, crops=0, crop_scale=(0.5, 2.0), colour=0.5, image_size=WIDTH, patch=PATCH, seed=0
    )
    cache_features(records, StubEncoder(), recipe, Path("data/features"), shard_bytes=SHARD_BYTES, workers=workers())
    features = FeatureStore(Path("data/features"))
    for row in rng("growth").integers(0, len(features), READS).tolist():
        features.read(row)


def generate() -> None:
    """Scores and pseudo masks of one view."""
    records = read_dataset(Path("data/dataset")).training
    fusion = Fusion(
        scales=(1.0,), flip=False, base_size=(WIDTH, WIDTH), window=WIDTH, stride=WIDTH, patch=PATCH, multiple=PATCH
    )
    scores, pseudo = Path("data/masks/scores"), Path("data/masks/pseudo")
    write_masks(records, stub_logits, CLASSES.num_classes, fusion, scores, pseudo, {}, tag_filter=True, share_absent=False)


def refine() -> None:
    refine_masks.main()


def score() -> None:
    """All that `stages.evaluate` does, with a stand-in for the DeepLab."""
    index = read_dataset(Path("data/dataset"))
    results, predictions = Path("data/results/evaluate"), Path("data/results/evaluate/predictions")
    results.mkdir(parents=True)
    confidence = predict_masks(index.val, stub_probabilities, predictions, results / "predictions.jsonl")
    pseudo, refined = Path("data/masks/pseudo"), Path("data/masks/refined")
    masks = {"seed": pseudo, "pseudo": pseudo, "refined": refined, "val": predictions}
    confusions, image_iou = evaluate.measure(index, masks)
    val = {**evaluate.val_figures(index, predictions, confusions, confidence), "scales": [1.0], "flip": False, "crf": False}
    write_metrics(results / "metrics.json", {"val": val})
    choices = gallery_images(index, *evaluate.rank(index, masks, image_iou, confidence), 4)
    chosen = [choice.record for choice in choices if choice.record.split != "val"]
    sure = {choice.record.image_id: confidence[choice.record.image_id] for choice in choices if choice.record.split == "val"}
    sure |= predict_masks(chosen, stub_probabilities, results / "gallery", results / "gallery.jsonl")
    masks["training"] = results / "gallery"
    image_iou |= evaluate.score_chosen(chosen, masks, confusions, index.classes.num_classes)
    gallery = evaluate.draw_gallery(choices, masks, None, image_iou, sure, results / "report" / "images")
    earlier = StageFigures(stage="refined", block=evaluate.read_block(Path("data/results"), "refined"))
    evaluate.write_figures(results, index, (earlier, StageFigures(stage="val", block=val)), confusions, gallery)


STEPS: Final[Mapping[str, Callable[[], None]]] = {
    "prepare": prepare,
    "store": store,
    "generate": generate,
    "refine": refine,
    "evaluate": score,
}


def one_step(gate: Gate, folder: Path, name: str) -> None:
    """Run a step in its folder."""
    os.chdir(folder)
    gate()
    STEPS[name]()
    gate()
