"""Seeds made elsewhere: PNGs, or ``.npy`` dictionaries as IRN, MCTformer, PSA and CLIP-ES write them. Torch-free."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from weakclip.cam.seeds import Thresholds, label_pixels, make_seed, resize_maps
from weakclip.datasets.index import Record
from weakclip.datasets.pickled import read_pickled_dictionary
from weakclip.errors import WeakClipError
from weakclip.masks import IGNORE, read_mask, resize_mask

Spread = Callable[[Record, NDArray[np.float32]], NDArray[np.float32]]
"""What follows the import: an image's maps (n, H, W), 0..1 -> others of any size, 0..1."""


def imported_masks(
    record: Record, folder: Path, num_classes: int, thresholds: Thresholds, spread: Spread | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Labels and seed of an image at photo size, (H, W) uint8; the seed is 255 where a class is unsure.

    ``folder`` holds ``<image_id>.png`` (class indices, 255 unsure; both are that) or ``<image_id>.npy``, whose maps are
    spread and thresholded.
    """
    png = folder / f"{record.image_id}.png"
    if png.is_file():
        seed = read_mask(png)
        foreign = np.setdiff1d(np.unique(seed), [*range(num_classes), IGNORE])
        if foreign.size:
            raise WeakClipError(
                f"{png} holds index {foreign[0]}; the classes go up to {num_classes - 1}",
                "number its classes as classes.txt lists them",
            )
        mask = resize_mask(seed, record.height, record.width)
        return mask, mask
    classes, maps = imported_maps(record, folder, num_classes, spread)
    return label_pixels(maps, classes, thresholds), make_seed(maps, classes, thresholds)


def imported_maps(
    record: Record, folder: Path, num_classes: int, spread: Spread | None = None
) -> tuple[list[int], NDArray[np.float32]]:
    """1-based classes and their maps (n, H, W) at photo size, each with maximum 1, of ``folder/<image_id>.npy``, spread."""
    npy = folder / f"{record.image_id}.npy"
    if not npy.is_file():
        raise WeakClipError(
            f"{folder} has neither {record.image_id}.png nor {npy.name}",
            "cam.import_folder needs a file for every training image",
        )
    maps = read_maps(npy)
    classes = sorted(set(maps) & set(record.tags)) or sorted(maps)
    if classes[-1] >= num_classes:
        problem = f"{npy} has a map of class {classes[-1] - 1}, counted from 0; there are {num_classes - 1} classes"
        raise WeakClipError(problem, "number its classes as classes.txt lists them, without the background")
    stacked = resize_maps(np.stack([maps[index] for index in classes]), record.height, record.width)
    whole = stacked / np.maximum(stacked.max(axis=(1, 2), keepdims=True), 1e-6)
    return classes, whole if spread is None else resize_maps(spread(record, whole), record.height, record.width)


def has_maps(record: Record, folder: Path) -> bool:
    """Whether the seed of an image comes as maps, which take a threshold; a PNG counts before them."""
    return not (folder / f"{record.image_id}.png").is_file()


def read_maps(path: Path) -> dict[int, NDArray[np.float32]]:
    """Maps by 1-based class of an ``.npy`` dictionary.

    Known forms: ``{class: (H, W)}`` counted from 0 without background (MCTformer, PSA), and the ``{"keys", "high_res" | "cam" |
    "attn_highres"}`` of IRN and CLIP-ES, whose keys are counted from 0 without background too.
    """
    content = read_pickled_dictionary(path)
    if "keys" in content:
        name = next((name for name in ("high_res", "cam", "attn_highres") if name in content), None)
        if name is None:
            hint = "give it maps of IRN, CLIP-ES or {class: map}; `weakclip import-masks` turns prob_npy files into masks"
            raise WeakClipError(f"{path} has keys but none of high_res, cam and attn_highres", hint)
        keys, maps = np.asarray(content["keys"]), np.asarray(content[name])
        if keys.ndim != 1 or maps.ndim != 3:
            problem = f"{path}: expected keys (n,) and {name} (n, height, width), got {keys.shape} and {maps.shape}"
            raise WeakClipError(problem, "write maps as MCTformer or IRN does")
        return _plain(path, dict(zip(keys.tolist(), maps, strict=False)))
    return _plain(path, content)


def _plain(path: Path, maps: Mapping[object, object]) -> dict[int, NDArray[np.float32]]:
    result = {}
    for key, value in maps.items():
        array = np.asarray(value)
        if not isinstance(key, int | np.integer) or array.ndim != 2 or not array.size or array.dtype.kind not in "buif":
            raise WeakClipError(
                f"{path}: expected {{class: (height, width) map}}, got {key!r}: shape {array.shape}",
                "write maps as MCTformer or IRN does",
            )
        with np.errstate(over="ignore"):
            result[int(key) + 1] = array.astype(np.float32)
        if not np.isfinite(result[int(key) + 1]).all() or int(key) < 0:
            raise WeakClipError(f"{path}: the map of class {key} is not a map of numbers", "write the maps anew")
    if not result:
        raise WeakClipError(f"{path} holds no map", "leave images without a class out of the training split")
    return result


def check_folder(folder: Path, records: Sequence[Record], *, spread: bool = False) -> None:
    """Refuses, before any work, a folder that lacks training images, or has masks of them where maps are to be ``spread``."""
    missing = [
        r.image_id for r in records if not any((folder / f"{r.image_id}{ending}").is_file() for ending in (".png", ".npy"))
    ]
    if missing:
        raise WeakClipError(
            f"{folder} is missing the seeds of {len(missing):,} of {len(records):,} training images (first: {missing[0]})",
            "cam.import_folder needs <image_id>.png or <image_id>.npy for every training image",
        )
    masks = [record.image_id for record in records if spread and not has_maps(record, folder)]
    if masks:
        raise WeakClipError(
            f"{folder} has masks of {len(masks):,} of {len(records):,} training images (first: {masks[0]}.png), and "
            "cam.affinity_blocks spreads maps",
            "set cam.affinity_blocks to 0, or import maps (.npy)",
        )
