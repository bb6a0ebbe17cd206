"""Batches: tokens, photo and seed of an image show the same window of it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from weakclip.datasets.index import Record
from weakclip.features.cache import cache_features
from weakclip.features.plan import ViewRecipe
from weakclip.features.store import FeatureStore
from weakclip.features.views import PADDING, View
from weakclip.masks import IGNORE, write_mask
from weakclip.supervision import Batch, CachedViews, OnlineViews, batch_maker, shrink

COLOURS = np.array([(250, 30, 30), (30, 250, 30), (30, 30, 250), (250, 250, 30)], np.uint8)
SIZE = 32
PATCH = 8
SCALE = (0.6, 1.6)


class MeanColours:
    """An encoder whose tokens are the mean colours of patches, so that they can be compared with the photo."""

    patch = PATCH
    blocks = (2,)
    width = 3
    attributes = {"weights_hash": "0", "mean": [0.0], "std": [1.0]}  # noqa: RUF012

    def __call__(self, images: Tensor) -> list[Tensor]:
        means = functional.avg_pool2d(images.float(), PATCH).flatten(2).transpose(1, 2)
        return [torch.cat([means.mean(dim=1, keepdim=True), means], dim=1)]


@pytest.fixture
def records(tmp_path: Path) -> list[Record]:
    """Photos of coloured blocks, and seeds that number the colours."""
    draw = np.random.default_rng(3)
    made = []
    for number, (rows, columns) in enumerate([(3, 4), (4, 3), (2, 4)]):
        labels = np.kron(draw.integers(0, 4, (rows, columns)), np.ones((16, 16), int)).astype(np.uint8)
        photo = tmp_path / f"{number}.png"
        Image.fromarray(COLOURS[labels]).save(photo)
        (tmp_path / "seeds").mkdir(exist_ok=True)
        write_mask(tmp_path / "seeds" / photo.name, labels)
        height, width = labels.shape
        made.append(
            Record(image_id=f"{number}", photo=str(photo), height=height, width=width, split="train", tags=(1,), mask=None)
        )
    return made


def make(records: list[Record], folder: Path, kind: str, step: int, colour: float = 0.0, crop: float = 1.0) -> Batch:
    views: CachedViews | OnlineViews
    if kind == "cached":
        recipe = ViewRecipe(
            scales=(1.0,), flip=False, crops=6, crop_scale=SCALE, colour=colour, image_size=SIZE, patch=PATCH, seed=0
        )
        if not (folder / "features" / "index.json").exists():
            cache_features(records, MeanColours(), recipe, folder / "features", shard_bytes=10**6, workers=1)
        views = CachedViews(FeatureStore(folder / "features"))
    else:
        views = OnlineViews(encoder=MeanColours(), scale=SCALE, colour=colour, image_size=SIZE)
    return batch_maker(records, views, folder / "seeds", batch_size=3, seed=0, size=SIZE, patch=PATCH, crop=crop)(step)


def padded(seeds: Tensor) -> NDArray[np.bool_]:
    return np.asarray(seeds.numpy() == IGNORE)


@pytest.mark.parametrize("kind", ["cached", "online"])
@pytest.mark.parametrize("crop", [1.0, 0.75])
@pytest.mark.parametrize("step", range(4))
def test_photo_seed_and_tokens_show_the_same_window(
    records: list[Record], tmp_path: Path, kind: str, crop: float, step: int
) -> None:
    made = make(records, tmp_path, kind, step, crop=crop)

    side = int(crop * SIZE)
    assert made.photos.shape == (3, side, side, 3) and made.seeds.shape == (3, side, side)
    assert sorted(made.names) == ["0", "1", "2"] and (made.height, made.width) == (side // PATCH, side // PATCH)
    inside = ~padded(made.seeds)
    assert 0.2 < inside.mean() <= 1
    distance = np.abs(made.photos[:, :, :, None].astype(int) - COLOURS.astype(int)).sum(axis=-1)
    agree = distance.argmin(axis=-1) == made.seeds.numpy()
    assert agree[inside].mean() > 0.9  # not on blurred edges
    pixels = torch.from_numpy(made.photos).permute(0, 3, 1, 2).float()
    expected = functional.avg_pool2d(pixels, PATCH).flatten(2).transpose(1, 2)
    assert (made.tokens[0][:, 1:] - expected).abs().max() < 3


@pytest.mark.parametrize("kind", ["cached", "online"])
def test_what_lies_outside_the_photo_is_unsure_and_grey(records: list[Record], tmp_path: Path, kind: str) -> None:
    made = [make(records, tmp_path, kind, step) for step in range(6)]

    outside = np.concatenate([padded(batch.seeds) for batch in made])
    photos = np.concatenate([batch.photos for batch in made])
    assert 0 < outside.mean() < 0.8
    assert (np.abs(photos[outside].astype(int) - PADDING).max(axis=1) < 3).mean() > 0.8  # not on blurred edges
    assert not np.isin(np.concatenate([batch.seeds.numpy() for batch in made])[~outside], [IGNORE]).any()


def test_colour_distortion_is_in_the_tokens_only(records: list[Record], tmp_path: Path) -> None:
    plain, coloured = (make(records, tmp_path, "online", 0, colour) for colour in (0.0, 0.9))
    assert np.array_equal(plain.photos, coloured.photos) and torch.equal(plain.seeds, coloured.seeds)
    assert not torch.equal(plain.tokens[0], coloured.tokens[0])


def test_cached_tokens_wait_as_they_are_stored_and_are_float32_on_the_device(records: list[Record], tmp_path: Path) -> None:
    waiting = make(records, tmp_path, "cached", 0)
    ready = waiting.to(torch.device("cpu"))
    assert (waiting.tokens[0].dtype, ready.tokens[0].dtype) == (torch.float16, torch.float32)
    assert torch.equal(waiting.tokens[0].float(), ready.tokens[0])


def test_a_step_is_the_same_whenever_it_is_made(records: list[Record], tmp_path: Path) -> None:
    first, again, other = (make(records, tmp_path, "online", step) for step in (5, 5, 6))
    assert torch.equal(first.seeds, again.seeds) and torch.equal(first.tokens[0], again.tokens[0])
    assert not torch.equal(first.seeds, other.seeds)


def test_windows_on_the_token_grid_reach_every_corner(records: list[Record], tmp_path: Path) -> None:
    whole = [make(records, tmp_path, "online", step) for step in range(12)]
    windows = [make(records, tmp_path, "online", step, crop=0.25) for step in range(12)]
    places = set()
    for view, window in zip(whole, windows, strict=True):
        assert torch.equal(view.tokens[0][:, 0], window.tokens[0][:, 0])  # the class token knows the whole view
        same = (view.tokens[0][:, 1:] == window.tokens[0][:, 1:]).all(dim=2)
        places |= {int(place) for place in same.nonzero()[:, 1]}
    assert places >= {0, 3, 12, 15}


def test_images_take_turns_in_micro_batches() -> None:
    numbers = torch.arange(4)
    batch = Batch(
        tokens=[numbers[:, None, None] + torch.zeros(4, 5, 2)],
        height=2,
        width=2,
        photos=np.arange(4, dtype=np.uint8)[:, None, None, None] + np.zeros((4, 2, 2, 3), np.uint8),
        seeds=numbers[:, None, None] + torch.zeros(4, 2, 2, dtype=torch.long),
        tags=[(1,), (2,), (3,), (4,)],
        names=list("abcd"),
        images=numbers[:, None, None, None] + torch.zeros(4, 3, 2, 2),
    )
    parts = batch.micro_batches(2)
    assert [part.names for part in parts] == [["a", "c"], ["b", "d"]]
    assert [part.tags for part in parts] == [[(1,), (3,)], [(2,), (4,)]]
    for part, own in zip(parts, ([0, 2], [1, 3]), strict=True):
        assert part.images is not None
        for values in (part.tokens[0], part.seeds, torch.from_numpy(part.photos), part.images):
            assert values.flatten(1)[:, 0].tolist() == own
    with pytest.raises(ValueError, match="expected a number that divides the 4 images of the batch, got 3"):
        batch.micro_batches(3)


def test_a_view_is_shrunk_in_the_photos_own_colours() -> None:
    photo = np.zeros((8, 16, 3), np.uint8)
    photo[:, 8:] = 200
    view = View(height=64, width=64, left=0.5, right=1.0, brightness=0.5)
    assert (shrink(photo, view, 4)[:, 1:] == 200).all()
    mirrored = View(height=64, width=64, flip=True)
    assert shrink(photo, mirrored, 4)[0, [0, 3], 0].tolist() == [200, 0]
