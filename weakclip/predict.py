"""Masks of photos that are in no dataset, from a trained DeepLab or a trained WeakCLIP.

::

    from weakclip.predict import predict
    for prediction in predict("photos", model="data/deeplab"):
        print(prediction.photo, prediction.classes, prediction.mask.shape)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from weakclip.affinity_refinement import AffinityRefinement
from weakclip.datasets.folder import is_photo, walk
from weakclip.datasets.index import ClassList
from weakclip.deeplab.postprocessing import sharpen
from weakclip.deeplab.prediction import WEIGHTS, load_deeplab, predict_probabilities
from weakclip.errors import WeakClipError
from weakclip.images import PHOTO_ENDINGS, read_photo
from weakclip.inference import Fusion, among_tags, fuse_probabilities, limit_to_winners
from weakclip.masks import winners
from weakclip.network.trained import NAME, load_weakclip
from weakclip.process_pool import in_processes
from weakclip.pseudo_masks import predictor
from weakclip.sharpening import Kernel, processes
from weakclip.side_by_side import map_ahead, side_by_side

TOGETHER: Final = 16  # photos in memory; WeakCLIP takes windows of several at a time
Photo = NDArray[np.uint8]
Scores = tuple[NDArray[np.uint8], NDArray[np.float32]]
"""Class indices (n,) and their probabilities (n, H, W), which add up to 1 or, of winners alone, to less."""
OnError = Callable[[Path, WeakClipError], None]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How photos are looked at.

    ``scales``: factors of the photo's size (DeepLab) or of ``base_size`` (WeakCLIP), averaged; ``flip``: each mirrored as well.
    ``base_size``: long and short side that WeakCLIP fits photos into, by default four times its window and its window.
    ``stride``: of its windows, by default 2/3 of them. ``share_absent``: see `among_tags`. ``precision``: float32 or bfloat16.
    ``kernel``: of what sharpens at the end, a dense CRF or PAR; None leaves it out.
    ``affinity``: of WeakCLIP's prediction, window by window; None leaves it out.
    """

    scales: tuple[float, ...] = (1.0,)
    flip: bool = True
    base_size: tuple[int, int] | None = None
    stride: int | None = None
    share_absent: bool = False
    precision: str = "float32"
    kernel: Kernel | None = None
    affinity: AffinityRefinement | None = None


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """``image``: the upright photo, (H, W, 3) uint8. ``mask``: (H, W) uint8 class indices. ``confidence``: (H, W) float32, the
    probability of the class that won, 0..1. ``classes``: names of the foreground classes that won a pixel."""

    photo: Path
    image: Photo
    mask: NDArray[np.uint8]
    confidence: NDArray[np.float32]
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Segmenter:
    """A trained network. ``scores``: of photos (H, W, 3) uint8, one after the other, among some classes or, if None, all."""

    names: tuple[str, ...]
    scores: Callable[[Sequence[Photo], Sequence[int] | None], Iterator[Scores]]


def predict(
    photos: str | Path | Sequence[str | Path],
    *,
    model: str | Path = "data/deeplab",
    tags: str | Sequence[str] = (),
    settings: Settings | None = None,
    on_error: OnError | None = None,
) -> Iterator[Prediction]:
    """The masks of photos, in their order, as they are found.

    ``photos``: files, folders (all photos below) or patterns such as ``shots/**/*.jpg``. ``model``: folder of a DeepLab or a
    WeakCLIP. ``tags``: names of the classes that the photos may show, also as ``"cat, dog"``; all of the model's if empty.
    ``on_error`` is told of photos that cannot be read, and the others are done; without it the first one ends it.

    Raises:
        WeakClipError: names photos that are not there, wrong weights, or a tag that the model does not know.
    """
    settings = settings or Settings()
    files = photo_files([photos] if isinstance(photos, str | Path) else photos)
    return segment(load_segmenter(Path(model), settings), files, split_tags(tags), settings.kernel, on_error)


def split_tags(tags: str | Sequence[str]) -> list[str]:
    """Names one by one: those of a text stand between commas."""
    listed = tags.split(",") if isinstance(tags, str) else tags
    return [name for tag in listed if (name := tag.strip())]


def segment(
    segmenter: Segmenter, files: Sequence[Path], tags: Sequence[str], kernel: Kernel | None, on_error: OnError | None
) -> Iterator[Prediction]:
    """`predict` with a network that is loaded already; memory does not grow with the number of files."""
    among = [0, *sorted({tag_index(tag, segmenter.names) for tag in tags})] if tags else None
    return _segment(segmenter, files, among, kernel, on_error)


def _segment(
    segmenter: Segmenter,
    files: Sequence[Path],
    among: Sequence[int] | None,
    kernel: Kernel | None,
    on_error: OnError | None,
) -> Iterator[Prediction]:
    for start in range(0, len(files), TOGETHER):
        read = list(read_photos(files[start : start + TOGETHER], on_error))
        if not read:
            continue
        scores = segmenter.scores([photo for _, photo in read], among)
        tasks = ((photo, *found, kernel) for (_, photo), found in zip(read, scores, strict=True))
        won = (_won(*task) for task in tasks) if kernel is None else in_processes(_won, tasks, processes(kernel))
        for (path, image), (mask, confidence) in zip(read, won, strict=True):
            classes = tuple(segmenter.names[index] for index in np.unique(mask) if index)
            yield Prediction(photo=path, image=image, mask=mask, confidence=confidence, classes=classes)


def read_photos(files: Iterable[Path], on_error: OnError | None) -> Iterator[tuple[Path, Photo]]:
    """Each file with its photo (H, W, 3) uint8 RGB. What cannot be read goes to ``on_error``, or is raised without one."""
    for path in files:
        try:
            yield path, read_photo(path)
        except WeakClipError as error:
            if on_error is None:
                raise
            on_error(path, error)


def _won(
    photo: Photo, classes: NDArray[np.uint8], probabilities: NDArray[np.float32], kernel: Kernel | None
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    best, confidence = winners(probabilities if kernel is None else sharpen(photo, probabilities, kernel))
    return classes[best], confidence


def photo_files(given: Sequence[str | Path]) -> list[Path]:
    """The files that are meant, each once: files as they are, the photos below folders, those that fit a pattern.

    Raises:
        WeakClipError: names what is not there, or holds no photos.
    """
    files: dict[str, Path] = {}
    for name in map(Path, given):
        if name.is_dir():
            found = [Path(path) for path in walk(name) if is_photo(path)]
        elif not name.exists() and any(sign in str(name) for sign in "*?["):
            matches = sorted(Path(name.anchor).glob(str(name.relative_to(name.anchor))))
            found = [path for path in matches if path.suffix.lower() in PHOTO_ENDINGS]
        else:
            found = [name] if name.exists() else []
        if not found:
            problem = f"{name} holds no photos" if name.is_dir() else f"{name} is not there"
            raise WeakClipError(problem, "give photos, folders of photos, or patterns such as 'shots/*.jpg'")
        files |= {os.path.realpath(path): path for path in found}
    return list(files.values())


def tag_index(tag: str, names: Sequence[str]) -> int:
    """Index of a class, background excluded."""
    if tag in names[1:]:
        return names.index(tag)
    near = get_close_matches(tag, names[1:], 1)
    question = f"did you mean {near[0]}? " if near else ""
    raise WeakClipError(f"the model does not know the tag {tag!r}", f"{question}it knows: {', '.join(names[1:])}")


def load_segmenter(folder: Path, settings: Settings) -> Segmenter:
    """The DeepLab or the WeakCLIP in a folder.

    Raises:
        WeakClipError: there is neither, or its files are damaged.
    """
    if (folder / f"{WEIGHTS}.json").is_file():
        return deeplab_segmenter(folder, settings)
    if (folder / f"{NAME}.json").is_file():
        return weakclip_segmenter(folder, settings)
    raise WeakClipError(
        f"{folder} holds neither a DeepLab ({WEIGHTS}.json) nor a WeakCLIP ({NAME}.json)",
        "`dvc repro` trains both, into data/deeplab and data/weakclip",
    )


def deeplab_segmenter(folder: Path, settings: Settings) -> Segmenter:
    """The DeepLab of a folder, ready to look at photos. Raises WeakClipError where its card names no classes."""
    model = load_deeplab(folder)
    names = model.card.get("classes")
    if not isinstance(names, list):
        raise WeakClipError(f"{folder / WEIGHTS}.json names no classes", "`dvc repro retrain_deeplab` writes one that does")
    see = partial(predict_probabilities, model, scales=settings.scales, flip=settings.flip)

    def scores(photos: Sequence[Photo], among: Sequence[int] | None) -> Iterator[Scores]:
        with side_by_side() as together:
            for probabilities in map_ahead(see, photos, threads=together, ahead=together):
                wanted = probabilities if among is None else probabilities[list(among)]
                yield limited(wanted, among, share_absent=settings.share_absent)

    return Segmenter(names=tuple(str(name) for name in names), scores=scores)


def weakclip_segmenter(folder: Path, settings: Settings) -> Segmenter:
    """The WeakCLIP of a folder, ready to look at photos."""
    trained = load_weakclip(folder, settings.precision)
    classes: ClassList = trained.classes
    window = trained.image_size
    fusion = Fusion(
        scales=settings.scales,
        flip=settings.flip,
        base_size=settings.base_size or (4 * window, window),
        window=window,
        stride=settings.stride or 2 * window // 3,
        patch=trained.encoder.patch,
        multiple=trained.multiple,
        resize=trained.resize,
    )
    see = predictor(trained.model, trained.encoder, settings.affinity)

    def scores(photos: Sequence[Photo], among: Sequence[int] | None) -> Iterator[Scores]:
        wanted = None if among is None else [among] * len(photos)
        for probabilities in fuse_probabilities(see, photos, classes.num_classes, fusion, wanted):
            yield limited(probabilities, among, share_absent=settings.share_absent)

    return Segmenter(names=classes.with_background, scores=scores)


def limited(probabilities: NDArray[np.float32], among: Sequence[int] | None, *, share_absent: bool) -> Scores:
    """The classes that may win: those of ``among``, made to add up to one; where it is None, those that win as they are."""
    if among is None:
        return limit_to_winners(probabilities)
    return np.array(among, np.uint8), among_tags(probabilities, share_absent=share_absent)
