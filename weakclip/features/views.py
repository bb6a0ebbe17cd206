"""What the encoder sees of a photo: the whole of it at some scale, or a random crop of it.

A view is a window on the photo in coordinates that do not depend on pixels (0..1 from edge to edge), so the same view cuts a
photo, its seed mask and its class activation maps alike, whatever their resolution.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from weakclip.seeding import rng

PADDING: Final = (124, 116, 104)  # mean colour of photos, which CLIP's normalisation turns to about 0
DIGITS: Final = 6  # of the numbers in a view
Element = TypeVar("Element", bound=np.generic)
Box = tuple[float, float, float, float]
GAP: Final = 2  # a photo is first halved, thirded, ... while it stays this much finer than the view


@dataclass(frozen=True, kw_only=True)
class View:
    """A window on a photo and the size, mirroring and colours it is rendered with.

    height and width are pixels of the encoder's input. left, top, right and bottom are shares of the photo's width and height;
    what lies outside 0..1 is padding. A flipped view shows the window mirrored left to right. Colour factors of 1 change
    nothing.
    """

    height: int
    width: int
    left: float = 0.0
    top: float = 0.0
    right: float = 1.0
    bottom: float = 1.0
    flip: bool = False
    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0

    def to_dict(self) -> dict[str, int | float | bool]:
        """Return the fields as JSON can hold them."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, int | float | bool]) -> Self:
        """Return the view that `to_dict` was called on."""
        return cls(**fields)  # type: ignore[arg-type]


def whole_views(
    height: int, width: int, *, scales: Sequence[float], flip: bool, image_size: int, patch: int
) -> tuple[View, ...]:
    """Return the views of a whole photo of height x width pixels: one for each scale, followed by its mirror image if flip.

    At scale 1 the long side has image_size pixels. Both sides are rounded to patches of the encoder, at least one.
    """
    longest = max(height, width)
    views: list[View] = []
    for scale in scales:
        long = _patches(scale * image_size / patch)
        sides = [long if side == longest else _patches(long * side / longest) for side in (height, width)]
        view = View(height=sides[0] * patch, width=sides[1] * patch)
        views += [view, dataclasses.replace(view, flip=True)] if flip else [view]
    return tuple(views)


def crop_views(
    image_id: str,
    height: int,
    width: int,
    *,
    count: int,
    seed: int,
    scale: tuple[float, float],
    colour: float,
    image_size: int,
) -> tuple[View, ...]:
    """Return count random crops of a photo of height x width pixels, each drawn from (seed, image_id, its index).

    A photo is zoomed by a factor out of scale, relative to a long side of image_size pixels, and cut to a window of
    image_size x image_size at a random place; a side that the window exceeds is padded, with the photo at a random place in it.
    Mirrored half the time; brightness, contrast and saturation vary by a factor of 1 - colour to 1 + colour.
    """
    return tuple(
        _crop_view(rng(seed, "view", image_id, index), height, width, scale=scale, colour=colour, image_size=image_size)
        for index in range(count)
    )


def render_photo(photo: NDArray[np.uint8], view: View) -> NDArray[np.uint8]:
    """Return the view of a photo (H, W, 3) as (view.height, view.width, 3), antialiased; padding has the mean colour."""
    image = Image.fromarray(photo)
    columns, rows = view.right - view.left, view.bottom - view.top
    finest = min(photo.shape[1] * columns / view.width, photo.shape[0] * rows / view.height)
    step = max(1, int(finest / GAP))
    # reduce() rounds sizes up, so a share of the photo is a share of width / step, not of the reduced image's width
    width, height = photo.shape[1] / step, photo.shape[0] / step
    image = image.reduce(step) if step > 1 else image
    window = (view.left * width, view.top * height, view.right * width, view.bottom * height)
    coarsest = max(columns * width / view.width, rows * height / view.height)
    image, box = _cut(image, window, margin=math.ceil(coarsest) + 1, view=view)
    rendered = np.array(image.resize((view.width, view.height), Image.Resampling.BILINEAR, box=box))
    return np.ascontiguousarray(rendered[:, ::-1]) if view.flip else rendered


def render_map(
    array: NDArray[Element],
    view: View,
    height: int,
    width: int,
    order: Literal["nearest", "bilinear"] = "nearest",
    fill: float = 255,
) -> NDArray[Element]:
    """Return the view of a map (H, W) or (C, H, W) as (height, width) or (C, height, width), with fill outside the photo.

    The map covers the photo, at any resolution. "nearest" is right for label maps; "bilinear" is for maps of floats.
    """
    rows, inside_rows = _centres(view.top, view.bottom, height)
    columns, inside_columns = _centres(view.left, view.right, width)
    if order == "nearest":
        picked = array[..., _nearest(rows, array.shape[-2])[:, None], _nearest(columns, array.shape[-1])[None, :]]
    else:
        if not np.issubdtype(array.dtype, np.floating):
            raise ValueError(f'order="bilinear" expected a map of floats, got {array.dtype}')
        picked = _interpolate(_interpolate(array, rows, -2), columns, -1)
    inside = inside_rows[:, None] & inside_columns[None, :]
    rendered = np.where(inside, picked, np.asarray(fill, dtype=array.dtype))
    return np.ascontiguousarray(rendered[..., ::-1] if view.flip else rendered)


def part_of_view(view: View, *, top: int, left: int, height: int, width: int) -> View:
    """The window of ``height`` x ``width`` pixels at (``top``, ``left``) of a view as it is rendered, colours and all."""
    if view.flip:
        left = view.width - left - width
    tall, wide = view.bottom - view.top, view.right - view.left
    return dataclasses.replace(
        view,
        height=height,
        width=width,
        top=view.top + tall * top / view.height,
        bottom=view.top + tall * (top + height) / view.height,
        left=view.left + wide * left / view.width,
        right=view.left + wide * (left + width) / view.width,
    )


def _patches(number: float) -> int:
    return max(1, math.floor(number + 0.5))


def _crop_view(
    draw: np.random.Generator, height: int, width: int, *, scale: tuple[float, float], colour: float, image_size: int
) -> View:
    zoom = draw.uniform(*scale) * image_size / max(height, width)
    top, bottom = _window(draw.uniform(), height * zoom, image_size)
    left, right = _window(draw.uniform(), width * zoom, image_size)
    flip = bool(draw.uniform() < 0.5)
    brightness, contrast, saturation = (round(float(factor), DIGITS) for factor in draw.uniform(1 - colour, 1 + colour, 3))
    return View(
        height=image_size,
        width=image_size,
        left=left,
        top=top,
        right=right,
        bottom=bottom,
        flip=flip,
        brightness=brightness,
        contrast=contrast,
        saturation=saturation,
    )


def _window(place: float, side: float, window: int) -> tuple[float, float]:
    """Return the ends of a window on a side, both in pixels, as shares of the side; place is 0..1 of the room there is."""
    start = place * (side - window)
    return round(start / side, DIGITS), round((start + window) / side, DIGITS)


def _cut(image: Image.Image, window: Box, *, margin: int, view: View) -> tuple[Image.Image, Box]:
    """Return the part of an image around a window, recoloured, padded where the window leaves it, and the window's place in it.

    A margin keeps the neighbours that the resampling looks at. Where the window ends inside the image or on its edge, the part
    ends with the image too, so that no padding blends into it.
    """
    left, top, right, bottom = window
    x0, y0, x1, y1 = math.floor(left) - margin, math.floor(top) - margin, math.ceil(right) + margin, math.ceil(bottom) + margin
    x0, y0 = (max(x0, 0) if view.left >= 0 else x0), (max(y0, 0) if view.top >= 0 else y0)
    x1 = min(x1, image.width) if view.right <= 1 else x1
    y1 = min(y1, image.height) if view.bottom <= 1 else y1
    inner = (max(x0, 0), max(y0, 0), min(x1, image.width), min(y1, image.height))
    empty = inner[0] >= inner[2] or inner[1] >= inner[3]  # a window beside the photo
    if empty or inner != (x0, y0, x1, y1):
        part = Image.new("RGB", (x1 - x0, y1 - y0), PADDING)
        if not empty:
            part.paste(_recolour(image.crop(inner), view), (inner[0] - x0, inner[1] - y0))
    else:
        part = _recolour(image.crop(inner), view)
    return part, (left - x0, top - y0, right - x0, bottom - y0)


def _recolour(image: Image.Image, view: View) -> Image.Image:
    for enhance, factor in (
        (ImageEnhance.Brightness, view.brightness),
        (ImageEnhance.Contrast, view.contrast),
        (ImageEnhance.Color, view.saturation),
    ):
        image = image if factor == 1 else enhance(image).enhance(factor)
    return image


def _centres(start: float, end: float, cells: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the places of a window's cell centres as shares of the photo's side, and which are inside the photo."""
    centres = start + (np.arange(cells) + 0.5) / cells * (end - start)
    return centres, (centres >= 0) & (centres < 1)


def _nearest(centres: NDArray[np.float64], length: int) -> NDArray[np.int64]:
    return np.clip(np.floor(centres * length), 0, length - 1).astype(np.int64)


def _interpolate(array: NDArray[Element], centres: NDArray[np.float64], axis: int) -> NDArray[Element]:
    length = array.shape[axis]
    place = np.clip(centres * length - 0.5, 0, length - 1)
    low = np.floor(place).astype(np.int64)
    share = (place - low).reshape((-1, 1) if axis == -2 else (-1,))
    first, second = np.take(array, low, axis), np.take(array, np.minimum(low + 1, length - 1), axis)
    mixed: NDArray[Element] = (first * (1 - share) + second * share).astype(array.dtype)
    return mixed
