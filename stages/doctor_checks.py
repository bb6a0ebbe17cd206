"""The checks of `weakclip doctor` that need the packages: device, parameters, photos, dataset, weights, forecast.

Each returns what it found, or raises WeakClipError for what the pipeline cannot run with.
"""

from __future__ import annotations

import platform
import shutil
from collections import Counter
from pathlib import Path
from typing import Final

import numpy as np
import open_clip
import torch
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

from stages.doctor import Line
from stages.forecast import forecasts
from weakclip.clip.mini import MEAN, MINI, STD
from weakclip.clip.sources import find_source
from weakclip.crf import CrfKernel, dense_crf
from weakclip.datasets.index import Dataset, read_dataset
from weakclip.deeplab.encoders import weights_file
from weakclip.device import device
from weakclip.downloads import Download, cached, clip_download, encoder_download, unreachable
from weakclip.errors import WeakClipError
from weakclip.features.index import INDEX, ShardFolder
from weakclip.params import Params, load
from weakclip.progress import duration, say, size
from weakclip.workers import workers

PHOTOS: Final = Path("data/raw/photos")
FEATURES: Final = Path("data/features")
OUTS: Final = (Path("data/features"), Path("data/cam"), Path("data/masks"), Path(".resume"))
FEW: Final = 5  # training images of a class


def crf_runs() -> Line:
    """Whether the dense CRF leaves four pixels alone that it has no reason to change."""
    kernel = CrfKernel(
        gaussian_sxy=1, gaussian_compat=3, bilateral_sxy=10, bilateral_srgb=10, bilateral_compat=10, iterations=1
    )
    found = dense_crf(np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 2), 0.5, np.float32), kernel)
    if not np.allclose(found, 0.5):
        raise WeakClipError(
            "the dense CRF computes nonsense: two equal classes did not stay equal",
            "build it anew: `pip install --force-reinstall --no-cache-dir --no-binary :all: --no-deps pydensecrf2`",
        )
    return Line("CRF: pydensecrf is there and runs")


def device_and_processes() -> Line:
    """Whether WEAKCLIP_DEVICE and WEAKCLIP_WORKERS can be used."""
    chosen = device()
    name = torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else f"{platform.machine()}, no CUDA"
    return Line(f"device: {chosen} ({name}), {workers()} processes")


def parameters(path: Path) -> Line:
    """Whether every parameter has a value that it may have; whether the device is one for this network."""
    p = load(path)
    text = f"parameters: {path} is right; dataset {p.dataset.name}, {p.clip.model}, {p.weakclip.variant}"
    if p.clip.model != MINI and device().type == "cpu":
        return Line(
            f"{text}: meant for a GPU, and there is none",
            "run it on a machine with a GPU, or rehearse here with `weakclip preset folder`; the forecast below says how long",
        )
    return Line(text)


def photos(p: Params) -> Line:
    """Whether the folder of photos can be read."""
    if p.dataset.name == "mini":
        return Line("photos: the mini world draws its own")
    hint = f"`weakclip preset {p.dataset.name} --root DIR` links the folder of your photos"
    if not PHOTOS.is_dir():
        reason = "links to nothing" if PHOTOS.is_symlink() else "is missing"
        raise WeakClipError(f"{PHOTOS} {reason}", hint)
    try:
        found = any(path.name != "README.md" for path in PHOTOS.iterdir())  # that is there from the beginning
    except OSError as error:
        raise WeakClipError(f"{PHOTOS} cannot be read: {error.strerror}", f"`chmod -R u+rX {PHOTOS.resolve()}`") from error
    if not found:
        raise WeakClipError(f"{PHOTOS} is empty", hint)
    return Line(f"photos: {PHOTOS.resolve()}")


def dataset(folder: Path) -> list[Line]:
    """Whether the index, where there is one, names photos that are there and classes that can be learnt."""
    if not (folder / "images.csv").exists():
        return [Line("dataset: not indexed yet, `dvc repro prepare_dataset` does it")]
    index = read_dataset(folder)
    missing = [record.photo for record in index.records if not Path(record.photo).is_file()]
    if missing:
        raise WeakClipError(
            f"{len(missing):,} of {len(index.records):,} photos are missing, first {missing[0]}",
            "put them back, or index what is there: `dvc repro --force prepare_dataset`",
        )
    left_out = folder / "skipped.csv"
    skipped = len(left_out.read_text(encoding="utf-8").splitlines()) - 1 if left_out.is_file() else 0
    return [*dataset_lines(index), *skipped_lines(skipped, len(index.records), folder)]


def dataset_lines(index: Dataset) -> list[Line]:
    """What there is, and what is odd about it."""
    training, val = index.training, index.val
    counts = Counter(tag for record in training for tag in record.tags)
    labelled = sum(record.mask is not None for record in index.records)
    lines = [
        Line(
            f"dataset: {len(training):,} training and {len(val):,} validation images of {len(index.classes.names)} classes, "
            f"{labelled:,} with true masks"
        )
    ]
    rare = [f"{name} ({counts[number]})" for number, name in enumerate(index.classes.names, start=1) if counts[number] < FEW]
    if rare:
        lines.append(
            Line(
                f"dataset: classes with fewer than {FEW} training images: {', '.join(rare)}",
                "tag more photos, or take the classes out of classes.txt; check how they are spelt in the tags",
            )
        )
    everywhere = [name for number, name in enumerate(index.classes.names, start=1) if 0 < counts[number] == len(training)]
    if everywhere:
        lines.append(
            Line(
                f"dataset: classes that every training image has: {', '.join(everywhere)}",
                "add photos without them: what a class is, a classifier learns from what it is not",
            )
        )
    untagged = sum(not record.tags for record in training)
    if untagged:
        lines.append(
            Line(
                f"dataset: {untagged:,} of {len(training):,} training images have no tag, and count as nothing but background",
                "tag them, or take them out, if objects are to be seen in them",
            )
        )
    if not val:
        lines.append(
            Line("dataset: no validation images, so nothing to evaluate", "set dataset.val_share above 0, or add splits")
        )
    return lines


def skipped_lines(skipped: int, used: int, folder: Path) -> list[Line]:
    """A warning where photos were left out."""
    if not skipped:
        return []
    share = f"{skipped:,} of {skipped + used:,} photos were left out"
    return [
        Line(f"dataset: {share}", f"{folder / 'skipped.csv'} tells which and why: `column -s, -t {folder / 'skipped.csv'}`")
    ]


def clip_weights(p: Params) -> Line:
    """Whether CLIP's weights are there or can be downloaded, and fit the model's activation."""
    model, weights = p.clip.model, p.clip.weights
    if model == MINI:
        return Line("clip.weights: mini, part of the package")
    source = find_source(model, weights)
    if source.file is not None:
        return Line(f"clip.weights: {source.file}, {size(source.file.stat().st_size)}; {model} has their activation")
    return download_line("clip.weights", f"{weights} for {model}", clip_download(model, weights))


def download_line(name: str, what: str, download: Download) -> Line:
    """Where weights that a library downloads are, or whether they can be reached."""
    if file := cached(download):
        return Line(f"{name}: {what}, downloaded already ({file})")
    if reason := unreachable(download):
        raise WeakClipError(
            f"{name}: {what} are not on this machine and cannot be reached: {reason}",
            f"with a network, get {download.words}; put it in data/raw and set {name} to its path: "
            f"`dvc exp run -S {name}=data/raw/{download.files[0]}`",
        )
    return Line(f"{name}: {what}, to be downloaded when first needed; can be reached")


def features(p: Params) -> Line | None:
    """Whether cached features were made with this CLIP and its way of preprocessing."""
    if not (FEATURES / INDEX).is_file():
        return None
    made = ShardFolder(FEATURES, "`dvc repro --force cache_features` makes them anew").attributes
    mean, std = normalisation(p)
    wanted = {"model": p.clip.model, "weights": p.clip.weights, "mean": list(mean), "std": list(std)}
    other = [f"{name} {made.get(name)}" for name, value in wanted.items() if made.get(name) != value]
    if other:
        return Line(f"features: cached with {', '.join(other)}, not as now", "`dvc repro cache_features` makes them anew")
    shown = " ".join(f"{value:.3f}" for value in mean)
    return Line(f"features: cached with this CLIP and its preprocessing (mean {shown})")


def normalisation(p: Params) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of pixels that the weights were trained with."""
    if p.clip.model == MINI:
        return MEAN, STD
    config = open_clip.get_pretrained_cfg(p.clip.model, p.clip.weights)
    return tuple(config.get("mean", OPENAI_DATASET_MEAN)), tuple(config.get("std", OPENAI_DATASET_STD))


def encoder_weights(p: Params) -> Line:
    """Whether the weights that the DeepLab starts from are there or can be downloaded."""
    name, weights = "deeplab.encoder_weights", p.deeplab.encoder_weights
    file = weights_file(weights)
    if file is not None:
        return Line(f"{name}: {'mini, part of the package' if weights == MINI else file}")
    if weights == "none":
        return Line(
            f"{name}: none, so the DeepLab starts from random weights", "set it to timm or a file, unless that is what you want"
        )
    return download_line(name, f"timm's for {p.deeplab.encoder}", encoder_download(p.deeplab.encoder))


def second_encoder_weights(p: Params) -> Line | None:
    """Whether the weights of a second encoder are there or can be downloaded, where there is to be one."""
    name, encoder, weights = "features.second_weights", p.features.second_encoder, p.features.second_weights
    if encoder == "none":
        return None
    if weights == MINI:
        return Line(f"{name}: mini, part of the package")
    if weights == "timm":
        return download_line(name, f"timm's for {encoder}", encoder_download(encoder))
    if not Path(weights).is_file():
        raise WeakClipError(f"{name} {weights} is missing", f"put the weights of {encoder} there, or set it to timm")
    return Line(f"{name}: {weights}, {size(Path(weights).stat().st_size)}")


def seeds(p: Params) -> Line | None:
    """Whether the seeds of another method are there, where they are to be imported."""
    if p.cam.source != "import":
        return None
    folder = Path(p.cam.import_folder)
    if not folder.is_dir():
        raise WeakClipError(
            f"cam.import_folder {folder} is missing", "put the seeds there, as PNG or .npy, named like the photos"
        )
    return Line(f"cam.import_folder: {folder}")


def forecast(p: Params, folder: Path, linked: bool) -> Line:
    """What the stages will take, against what the disk has left; ``linked``: DVC does not copy outputs."""
    if not (folder / "images.csv").exists():
        return Line("forecast: none before `dvc repro prepare_dataset` has counted the images")
    rows = forecasts(p, read_dataset(folder))
    needed = sum(row.n_bytes for row in rows) * (1 if linked else 2)
    free = shutil.disk_usage(folder).free + sum(used(path) for path in OUTS)
    lines = [f"  {'stage':<16}  {'disk':>8}  time"]
    lines += [f"  {row.stage:<16}  {size(round(row.n_bytes)):>8}  {duration(row.seconds)}" for row in rows]
    total = duration(sum(row.seconds for row in rows))
    twice = "" if linked else ", DVC's copies included"
    lines.append(f"  {'all':<16}  {size(round(needed)):>8}  {total}{twice}; {size(free)} free, or taken by former outputs")
    if needed > free:
        say("\n".join(lines))
        raise WeakClipError(
            f"the pipeline needs about {size(round(needed))}, the disk has {size(free)}",
            "free some space (docs/storage.md), lower features.views, set features.dtype to int8, or let DVC's cache link",
        )
    return Line("\n".join(["forecast, from what was timed just now; no promise:", *lines]))


def used(path: Path) -> int:
    """Bytes that a folder takes on the disk."""
    return sum(file.stat().st_blocks * 512 for file in path.rglob("*") if file.is_file() and not file.is_symlink())
