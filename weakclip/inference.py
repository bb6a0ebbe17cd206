"""Class probabilities of a photo: sliding windows, scales and mirrors, fused."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from weakclip.images import Resize, resize_photo

Predict = Callable[[Tensor], Tensor]
"""(B, 3, h, w), 0..255 -> logits (B, K, h', w') of any size."""


def window_starts(size: int, window: int, stride: int) -> list[tuple[int, int]]:
    """Start and end of the windows along a side; the last one is shifted back to end at the border."""
    count = max(size - window + stride - 1, 0) // stride + 1
    ends = [min(index * stride + window, size) for index in range(count)]
    return [(max(end - window, 0), end) for end in ends]


def fitted_size(height: int, width: int, *, long_side: float, short_side: float, multiple: int = 1) -> tuple[int, int]:
    """The largest (height, width) of the same ratio within ``long_side`` x ``short_side``, sides at least one ``multiple``
    and rounded to it."""
    factor = min(int(long_side) / max(height, width), int(short_side) / min(height, width))
    return tuple(max(multiple, round(int(side * factor + 0.5) / multiple) * multiple) for side in (height, width))  # type: ignore[return-value]


@dataclass(frozen=True, kw_only=True)
class Fusion:
    """Which views of a photo are averaged.

    ``scales``: factors on ``base_size`` = (long, short) in pixels. ``flip``: each view plain and mirrored. ``window``,
    ``stride``: of sliding windows, pixels. ``multiple``: sides of the resized photo are multiples of this (the patch).
    ``resize``: how the photo is resized.
    """

    scales: Sequence[float]
    flip: bool
    base_size: tuple[int, int]
    window: int
    stride: int
    multiple: int
    resize: Resize = resize_photo


def fuse_probabilities(
    predict: Predict, photos: Sequence[NDArray[np.uint8]], num_classes: int, fusion: Fusion, batch_size: int = 32
) -> list[NDArray[np.float32]]:
    """Mean softmax of all views of each photo (H, W, 3) uint8, at photo size: [(K, H, W)].

    Windows of equal size from all photos, scales and mirrors go through the network together. Logits of overlapping
    windows are averaged before the softmax, probabilities of views after it.
    """
    views = [view for photo in photos for view in views_of(photo, num_classes, fusion)]
    gather_logits(predict, views, fusion.window, fusion.stride, batch_size)
    per_photo = len(views) // len(photos)
    return [
        sum_of_views(views[index * per_photo : (index + 1) * per_photo], photo.shape[:2]) for index, photo in enumerate(photos)
    ]


@torch.inference_mode()
def gather_logits(predict: Predict, views: Sequence[ViewLogits], window: int, stride: int, batch_size: int = 32) -> None:
    """Runs the network on all windows of the views, windows of equal size together, and adds up what it says in each view."""
    by_size: dict[tuple[int, int], list[tuple[ViewLogits, int, int, int, int]]] = defaultdict(list)
    for view in views:
        for top, bottom in window_starts(view.pixels.shape[0], window, stride):
            for left, right in window_starts(view.pixels.shape[1], window, stride):
                by_size[bottom - top, right - left].append((view, top, bottom, left, right))
    for windows in by_size.values():
        for start in range(0, len(windows), batch_size):
            batch = windows[start : start + batch_size]
            pixels = np.stack([view.pixels[top:bottom, left:right] for view, top, bottom, left, right in batch])
            logits = predict(torch.from_numpy(pixels).permute(0, 3, 1, 2))
            logits = functional.interpolate(logits.float(), size=pixels.shape[1:3], mode="bilinear", align_corners=False).cpu()
            for (view, top, bottom, left, right), window_logits in zip(batch, logits, strict=True):
                view.logits[:, top:bottom, left:right] += window_logits
                view.count[top:bottom, left:right] += 1


def sum_of_views(views: Sequence[ViewLogits], size: tuple[int, ...]) -> NDArray[np.float32]:
    total = torch.stack([view.probabilities(size) for view in views]).mean(dim=0)
    return total.numpy()


def views_of(photo: NDArray[np.uint8], num_classes: int, fusion: Fusion) -> list[ViewLogits]:
    """The views of one photo: for each scale the plain one and, where mirrors are wanted, the mirrored one."""
    views = []
    for scale in fusion.scales:
        long_side, short_side = (side * scale for side in fusion.base_size)
        height, width = fitted_size(*photo.shape[:2], long_side=long_side, short_side=short_side, multiple=fusion.multiple)
        pixels = fusion.resize(photo, height, width)
        views.append(ViewLogits(pixels, num_classes))
        if fusion.flip:
            views.append(ViewLogits(np.ascontiguousarray(pixels[:, ::-1]), num_classes, mirrored=True))
    return views


class ViewLogits:
    """A view of a photo and the logits gathered for it.

    ``pixels``: (h, w, 3), 0..255, as the network sees them. ``mirrored``: the photo the other way round, which is undone in the
    probabilities.
    """

    def __init__(self, pixels: NDArray[np.generic], num_classes: int, *, mirrored: bool = False) -> None:
        self.pixels, self.mirrored = pixels, mirrored
        self.logits = torch.zeros(num_classes, *pixels.shape[:2])
        self.count = torch.zeros(pixels.shape[:2])

    def probabilities(self, size: tuple[int, ...]) -> Tensor:
        """(K, *size), the view turned back."""
        logits = functional.interpolate(
            (self.logits / self.count)[None], size=tuple(size), mode="bilinear", align_corners=False
        )[0]
        logits = logits.flip(-1) if self.mirrored else logits
        return logits.softmax(dim=0)


def limit_to_tags(
    probabilities: NDArray[np.float32], tags: Sequence[int], *, share_absent: bool
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Background and the tagged classes only, summing to one: (1 + len(tags),) classes and (1 + len(tags), H, W).

    ``share_absent``: what the absent classes had goes to the tagged ones alone, in proportion; otherwise background has its
    part of it. A network that tells objects from background but hardly one class from another spreads an object over all
    classes, and background would win it.
    """
    classes = np.array([0, *tags], np.uint8)
    kept = probabilities[classes]
    if share_absent and len(tags):
        foreground = kept[1:] / kept[1:].sum(axis=0, keepdims=True)
        return classes, np.concatenate([kept[:1], (1 - kept[:1]) * foreground])
    return classes, kept / kept.sum(axis=0, keepdims=True)


def limit_to_winners(probabilities: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The classes that win at least one pixel, as they are: what the released code keeps."""
    classes = np.unique(probabilities.argmax(axis=0)).astype(np.uint8)
    return classes, probabilities[classes]
