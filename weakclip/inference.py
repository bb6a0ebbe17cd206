"""Class probabilities of a photo: sliding windows, scales and mirrors, fused."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from weakclip.device import device, to_host
from weakclip.images import Resize, resize_photo
from weakclip.masks import winners
from weakclip.side_by_side import map_ahead, side_by_side

Predict = Callable[[Tensor], Tensor]
"""(B, 3, h, w), 0..255 -> logits (B, K, h', w') of any size."""

WindowsAlong = Callable[[int], Sequence[tuple[int, int]]]
"""Length of a side of a view, pixels -> start and end of the windows along it."""

Window = tuple["ViewLogits", int, int, int, int]
"""A view, and top, bottom, left and right of a window on it."""

PIXELS_ON_CPU: Final = 5 * 2**16
PIXELS_ON_GPU: Final = 2**23
"""Of windows that go through the network together: 1 of 512 x 512 or 2 of 384 x 384, or 32 of 512 x 512. A CPU gains nothing by
more, and its memory grows."""
LOGITS_TOGETHER: Final = 2**25
"""Of views that are gathered together, 128 MB; a larger view is gathered alone."""
BAND: Final = 2**22
"""Logits of the rows of a photo that are turned into probabilities together, 16 MB."""


def window_starts(size: int, window: int, stride: int) -> list[tuple[int, int]]:
    """Start and end of the windows along a side; the last one is shifted back to end at the border."""
    count = max(size - window + stride - 1, 0) // stride + 1
    ends = [min(index * stride + window, size) for index in range(count)]
    return [(max(end - window, 0), end) for end in ends]


def windows_along(size: int, window: int, stride: int, patch: int) -> list[tuple[int, int]]:
    """Start and end of the windows along a side: sliding ones, or, where the stride is longer than a window, even ones of at
    most a stride."""
    return even_windows(size, stride, patch) if stride > window else window_starts(size, window, stride)


def even_windows(size: int, most: int, patch: int) -> list[tuple[int, int]]:
    """Start and end of the fewest windows of at most ``most`` pixels that cover a side, all of one length, whole patches.

    Two of them overlap by less than two patches; one that covers the side alone is as long as that.
    """
    if size <= most:
        return [(0, size)]
    count = -(-size // (most // patch * patch))
    length = -(-size // (count * patch)) * patch
    starts = [index * (size - length) // (count - 1) for index in range(count)]
    return [(start, start + length) for start in starts]


def fitted_size(height: int, width: int, *, long_side: float, short_side: float, multiple: int = 1) -> tuple[int, int]:
    """The largest (height, width) of the same ratio within ``long_side`` x ``short_side``, sides at least one ``multiple``
    and rounded to it."""
    factor = min(int(long_side) / max(height, width), int(short_side) / min(height, width))
    return tuple(max(multiple, round(int(side * factor + 0.5) / multiple) * multiple) for side in (height, width))  # type: ignore[return-value]


@dataclass(frozen=True, kw_only=True)
class Fusion:
    """Which views of a photo are averaged.

    ``scales``: factors on ``base_size`` = (long, short) in pixels. ``flip``: each view plain and mirrored. ``window``,
    ``stride``: of the windows, pixels (`windows_along`). ``patch``: of the network, pixels. ``multiple``: sides of the resized
    photo are multiples of this. ``resize``: how the photo is resized.
    """

    scales: Sequence[float]
    flip: bool
    base_size: tuple[int, int]
    window: int
    stride: int
    patch: int
    multiple: int
    resize: Resize = resize_photo

    @property
    def views(self) -> int:
        """Of a photo."""
        return len(self.scales) * (1 + self.flip)

    def windows_along(self, size: int) -> list[tuple[int, int]]:
        """Start and end of the windows along a side of a view, pixels."""
        return windows_along(size, self.window, self.stride, self.patch)


@torch.inference_mode()
def fuse_probabilities(
    predict: Predict,
    photos: Sequence[NDArray[np.uint8]],
    num_classes: int,
    fusion: Fusion,
    wanted: Sequence[Sequence[int]] | None = None,
    pixels_together: int | None = None,
) -> Iterator[NDArray[np.float32]]:
    """Mean softmax of all views of each photo (H, W, 3) uint8, at photo size, photo after photo: (K, H, W).

    ``wanted``: for each photo the classes that are returned, (len(wanted), H, W); the softmax is over all. Windows of equal
    size from several views, and from several photos if these are small, go through the network together: as many as have
    ``pixels_together``, by default what suits the device. Logits of overlapping windows are averaged before the softmax,
    probabilities of views after it. Memory does not grow with the number of photos.
    """
    wanted = wanted or [range(num_classes)] * len(photos)
    views = (view for photo in photos for view in views_of(photo, num_classes, fusion))
    done = 0
    for group in groups_of_views(views):
        gather_logits(predict, group, fusion.windows_along, pixels_together)
        for view in group:
            number, place = divmod(done, fusion.views)
            if place == 0:
                total = torch.zeros(len(wanted[number]), *photos[number].shape[:2], device=view.logits.device)
            view.add_probabilities(total, wanted[number])
            done += 1
            if place == fusion.views - 1:
                yield to_host(total / fusion.views).numpy()


def groups_of_views(views: Iterable[ViewLogits]) -> Iterator[list[ViewLogits]]:
    """Consecutive views whose logits are held in memory together."""
    group: list[ViewLogits] = []
    for view in views:
        if group and sum(other.size for other in group) + view.size > LOGITS_TOGETHER:
            yield group
            group = []
        group.append(view)
    yield group


@torch.inference_mode()
def gather_logits(
    predict: Predict, views: Sequence[ViewLogits], windows_along: WindowsAlong, pixels_together: int | None = None
) -> None:
    """Runs the network on all windows of the views, windows of equal size together, and adds up what it says in each view.

    On a CPU with several threads a few batches go through it side by side.
    """
    pixels_together = pixels_together or (PIXELS_ON_CPU if device().type == "cpu" else PIXELS_ON_GPU)
    by_size: dict[tuple[int, int], list[Window]] = defaultdict(list)
    for view in views:
        for top, bottom in windows_along(view.pixels.shape[0]):
            for left, right in windows_along(view.pixels.shape[1]):
                by_size[bottom - top, right - left].append((view, top, bottom, left, right))
    batches = []
    for (height, width), windows in by_size.items():
        batch_size = max(1, pixels_together // (height * width))
        batches += [windows[start : start + batch_size] for start in range(0, len(windows), batch_size)]
    with side_by_side() as together:
        forward = partial(logits_of_windows, predict)
        if together > 1:
            logits_of_batches = map_ahead(forward, batches, threads=together, ahead=together)
        else:  # in this thread: in each new one a GPU's libraries plan anew, which takes longer than the windows
            logits_of_batches = map(forward, batches)
        for batch, logits in zip(batches, logits_of_batches, strict=True):
            for (view, *place), window_logits in zip(batch, logits, strict=True):
                view.add_window(window_logits, *place)


@torch.inference_mode()
def logits_of_windows(predict: Predict, windows: Sequence[Window]) -> Tensor:
    """(B, K, h, w) of windows of one size (h, w)."""
    pixels = np.stack([view.pixels[top:bottom, left:right] for view, top, bottom, left, right in windows])
    logits = predict(torch.from_numpy(pixels).permute(0, 3, 1, 2)).float()
    return functional.interpolate(logits, size=pixels.shape[1:3], mode="bilinear", align_corners=False)


def views_of(photo: NDArray[np.uint8], num_classes: int, fusion: Fusion) -> list[ViewLogits]:
    """The views of one photo (H, W, 3): for each scale the plain one and, where mirrors are wanted, the mirrored one."""
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
    probabilities. ``logits``: (K, h, w), sums over windows, on the device that they come from. ``count``: (h, w), of windows.
    """

    def __init__(self, pixels: NDArray[np.generic], num_classes: int, *, mirrored: bool = False) -> None:
        self.pixels, self.mirrored, self.num_classes = pixels, mirrored, num_classes
        self.logits, self.count = torch.zeros(0), torch.zeros(pixels.shape[:2])
        self.size = num_classes * self.count.numel()

    def add_window(self, logits: Tensor, top: int, bottom: int, left: int, right: int) -> None:
        """Logits (K, bottom - top, right - left) of a window."""
        if not self.logits.numel():
            self.count = self.count.to(logits.device)
            self.logits = torch.zeros(self.num_classes, *self.count.shape, device=logits.device)
        self.logits[:, top:bottom, left:right] += logits
        self.count[top:bottom, left:right] += 1

    def probabilities(self, size: tuple[int, ...]) -> Tensor:
        """(K, *size), the view turned back."""
        total = torch.zeros(self.num_classes, *size, device=self.logits.device)
        self.add_probabilities(total, range(self.num_classes))
        return total

    def add_probabilities(self, total: Tensor, classes: Sequence[int]) -> None:
        """Adds the probabilities of some classes to ``total`` (len(classes), H, W), the view turned back and resized to it.

        Memory does not grow with H: it goes through the rows in bands.
        """
        height, width = total.shape[1:]
        logits = self.logits / self.count
        rows_together = max(1, BAND // (self.num_classes * width))
        for top in range(0, height, rows_together):
            band = total[:, top : top + rows_together]
            resized = resized_rows(logits, (height, width), top, band.shape[1])
            resized = resized.flip(-1) if self.mirrored else resized
            band += resized.softmax(dim=0)[list(classes)]


def resized_rows(maps: Tensor, size: tuple[int, int], top: int, count: int) -> Tensor:
    """Maps (K, h, w) resized to ``size`` (H, W), bilinear, and of that ``count`` rows from ``top`` on: (K, count, W)."""
    height, width = size
    if count == height:
        return functional.interpolate(maps[None], size=size, mode="bilinear", align_corners=False)[0]
    places = (torch.arange(top, top + count, device=maps.device) + 0.5) * (maps.shape[1] / height) - 0.5
    above = places.clamp(0, maps.shape[1] - 1).floor().long()
    below = (above + 1).clamp_max(maps.shape[1] - 1)
    first, last = int(above[0]), int(below[-1])
    across = functional.interpolate(
        maps[None, :, first : last + 1], size=(last + 1 - first, width), mode="bilinear", align_corners=False
    )[0]
    share = (places.clamp_min(0) - above)[:, None]
    return torch.lerp(across[:, above - first], across[:, below - first], share)


def among_tags(probabilities: NDArray[np.float32], *, share_absent: bool) -> NDArray[np.float32]:
    """Probabilities of background and the tagged classes (1 + n, H, W), out of all, so that they sum to one.

    ``share_absent``: what the absent classes had goes to the tagged ones alone, in proportion; otherwise background has its
    part of it. A network that tells objects from background but hardly one class from another spreads an object over all
    classes, and background would win it.
    """
    if share_absent and len(probabilities) > 1:
        foreground = probabilities[1:] / probabilities[1:].sum(axis=0, keepdims=True)
        return np.concatenate([probabilities[:1], (1 - probabilities[:1]) * foreground])
    limited: NDArray[np.float32] = probabilities / probabilities.sum(axis=0, keepdims=True)
    return limited


def limit_to_winners(probabilities: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The classes (n,) that win at least one pixel, as they are: what the released code keeps."""
    classes = np.unique(winners(probabilities)[0])
    return classes, probabilities[classes]
