"""Seeds and masks that leave a training little or nothing to learn from: it trains on, and everything stays a number."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from stages import retrain_deeplab, train_cam, train_weakclip
from tests.conftest import change_params
from weakclip.datasets.index import read_dataset
from weakclip.masks import IGNORE, read_mask, write_mask
from weakclip.weights import load_weights

Change = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
CHANGES: dict[str, Change] = {
    "a class without a pixel": lambda mask: np.where(mask == mask.max(), np.uint8(0), mask),
    "background alone": lambda mask: np.zeros_like(mask),
    "ignored pixels alone": lambda mask: np.full_like(mask, IGNORE),
}
SMALL = {"weakclip.loss_size": 32, "weakclip.decoder_width": 16, "weakclip.channels": 16, "deeplab.crop_size": 32}


def numbers(folder: Path, name: str, curves: Path) -> None:
    """Weights and curves are numbers."""
    state, _ = load_weights(folder, name)
    assert all(torch.isfinite(value).all() for value in state.values() if value.is_floating_point())
    rows = [row for path in curves.rglob("*loss.tsv") for row in path.read_text().splitlines()[1:]]
    rows += [row for path in curves.rglob("cross_entropy.tsv") for row in path.read_text().splitlines()[1:]]
    assert rows and np.isfinite([float(row.split("\t")[1]) for row in rows]).all()


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_both_trainings_go_on(workspace: Path, change: Change) -> None:
    change_params(Path("params.yaml"), SMALL)
    for path in sorted(Path("data/cam/seeds").iterdir()):
        mask = change(read_mask(path))
        write_mask(path, mask)
        for kind in ("refined", "gated"):
            Path("data/masks", kind).mkdir(parents=True, exist_ok=True)
            write_mask(Path("data/masks", kind, path.name), mask)
    train_weakclip.main()
    numbers(Path("data/weakclip"), "weakclip", Path("data/results/train_weakclip"))
    retrain_deeplab.main()
    numbers(Path("data/deeplab"), "deeplab", Path("data/results/retrain_deeplab"))


def test_maps_that_are_zero_everywhere_make_seeds_of_background(workspace: Path) -> None:
    records = read_dataset(Path("data/dataset")).training
    folder = Path("data/raw/maps")
    folder.mkdir(parents=True)
    for record in records:
        maps = {tag - 1: np.zeros((record.height, record.width), np.float32) for tag in record.tags}
        np.save(folder / f"{record.image_id}.npy", maps)  # type: ignore[arg-type]
    change_params(Path("params.yaml"), {"cam.source": "import", "cam.import_folder": str(folder)})
    train_cam.main()
    assert all(not read_mask(Path(f"data/cam/seeds/{record.image_id}.png")).any() for record in records)
