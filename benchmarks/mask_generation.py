"""Twelve views of a photo, fused: windows in batches with the texts encoded once, and window by window as released.

All are the same network, the released one at full size. `masks_12view` has the same windows in float32 on both sides; the
others compute in bfloat16, the last on fewer windows, even ones of up to one and a half times the side.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.command import run, scratch
from benchmarks.pairs import Pair, alternate
from benchmarks.rows import Row, compared
from benchmarks.samples import draw_dataset
from benchmarks.sides import Gate, Side
from benchmarks.sizes import FULL, MINI, SIZES
from weakclip.datasets.index import read_dataset
from weakclip.images import read_photo
from weakclip.inference import Fusion, Predict, fuse_probabilities, logits_of_windows, views_of
from weakclip.network.variants import Network, build_variant
from weakclip.pseudo_masks import predictor
from weakclip.seeding import seed_torch

KINDS: Final = ("batched", "bf16", "fewer", "released")
SCALES: Final = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
BASE: Final = {"mini": (128, 128), "full": (2048, 512)}
PHOTO: Final = {"mini": (128, 128), "full": FULL.photo}  # the mini CLIP pads sides that are no multiple of its patch


def measure(quick: bool, rounds: int | None) -> list[Row]:
    """Twelve views of a photo: batched windows against one window at a time with the text encoded each time."""
    size = MINI if quick else FULL
    with scratch() as folder, ExitStack() as stack:
        height, width = PHOTO[size.name]
        draw_dataset(folder, 1, height=height, width=width, classes=size.classes)
        sides = {
            kind: stack.enter_context(Side(photo_by_photo, folder, size.name, kind, environment={"WEAKCLIP_DEVICE": "cpu"}))
            for kind in KINDS
        }
        seconds = alternate(sides, rounds or 2, warm_up=0)
        figures = {kind: side.stop() for kind, side in sides.items()}
    gigabytes = {f"gigabytes_{kind}": round(found["peak_bytes"] / 1e9, 3) for kind, found in figures.items()}
    rows = []
    for kind, name, bar in (
        ("batched", "masks_12view", 1.2),
        ("bf16", "masks_12view_bf16", None),
        ("fewer", "masks_12view_fewer", 3.0),
    ):
        windows = {side: int(figures[side]["windows"]) for side in (kind, "released")}
        what = (
            f"a photo of {width} x {height}, 12 views, {windows[kind]} windows in {precision(kind)}, "
            f"as released {windows['released']} in float32; {size.name} size"
        )
        rows.append(compared(name, Pair(seconds[kind], seconds["released"]), what, bar=bar, **gigabytes))
    return rows


def precision(kind: str) -> str:
    return "bfloat16" if kind in ("bf16", "fewer") else "float32"


def photo_by_photo(gate: Gate, folder: Path, name: str, kind: str) -> None:
    size = SIZES[name]
    p = size.params()
    (record,) = read_dataset(folder / "dataset").training
    photo = read_photo(record.photo)
    seed_torch("benchmark masks")
    network = build_variant(
        "published",
        size.clip(),
        blocks=p.clip.blocks,
        classes=size.classes,
        sizes=replace(size.sizes(), pyramid_adapter=True, co_attention=True),
        image_size=p.clip.image_size,
        precision=precision(kind),
    )
    fusion = Fusion(
        scales=SCALES,
        flip=True,
        base_size=BASE[name],
        window=p.clip.image_size,
        stride=3 * p.clip.image_size // 2 if kind == "fewer" else p.masks.stride,
        patch=network.encoder.patch,
        multiple=network.multiple,
        resize=network.resize,
    )
    num_classes = size.classes.num_classes
    gate.figures["windows"] = sum(
        len(fusion.windows_along(view.pixels.shape[0])) * len(fusion.windows_along(view.pixels.shape[1]))
        for view in views_of(photo, num_classes, fusion)
    )
    predict = predict_window(network) if kind == "released" else predictor(network.model, network.encoder)
    with torch.inference_mode():
        predict(torch.zeros(1, 3, fusion.window, fusion.window))
    while True:
        gate()
        if kind == "released":
            fuse_as_released(predict, photo, num_classes, fusion)
        else:
            list(fuse_probabilities(predict, [photo], num_classes, fusion))


@torch.inference_mode()
def fuse_as_released(predict: Predict, photo: NDArray[np.uint8], num_classes: int, fusion: Fusion) -> Tensor:
    """The mean over all views (K, H, W), one window after the other."""
    total = torch.zeros(num_classes, *photo.shape[:2])
    for view in views_of(photo, num_classes, fusion):
        for top, bottom in fusion.windows_along(view.pixels.shape[0]):
            for left, right in fusion.windows_along(view.pixels.shape[1]):
                view.add_window(logits_of_windows(predict, [(view, top, bottom, left, right)])[0], top, bottom, left, right)
        total += view.probabilities(photo.shape[:2])
    return total / fusion.views


def predict_window(network: Network) -> Predict:
    """As released: every window has the text encoder run anew."""
    model, encoder = network.model.eval(), network.encoder

    def predict(images: Tensor) -> Tensor:
        height, width = (side // encoder.patch for side in images.shape[2:])
        logits: Tensor = model(encoder(images), height, width)[0]
        return logits

    return predict


if __name__ == "__main__":
    run(measure)
