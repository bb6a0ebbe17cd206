"""Feature caching against the bare encoder on the same batches, which are ready in memory for it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.command import run, scratch
from benchmarks.pairs import Pair, alternate, timed
from benchmarks.rows import Row, compared
from benchmarks.samples import draw_dataset
from benchmarks.sizes import FULL, MINI, Size
from weakclip.clip.image_encoder import ImageEncoder
from weakclip.datasets.index import Record
from weakclip.features.cache import cache_features
from weakclip.features.plan import ViewRecipe, plan_shards
from weakclip.features.views import render_photo
from weakclip.images import read_photo
from weakclip.workers import workers

SHARD_BYTES = 10**9
IMAGES = {"mini": 4, "full": 8}
BATCH = {"mini": 2, "full": 4}  # views that are encoded together


def measure(quick: bool, rounds: int | None) -> list[Row]:
    """Feature caching against the bare encoder forward."""
    size = MINI if quick else FULL
    with scratch() as folder:
        return [measure_size(size, folder, rounds or 3)]


def measure_size(size: Size, folder: Path, rounds: int) -> Row:
    p, (height, width) = size.params(), size.photo
    records = draw_dataset(folder, IMAGES[size.name], height=height, width=width, classes=size.classes).records
    encoder = ImageEncoder(size.clip(), p.clip.blocks)
    recipe = ViewRecipe(
        scales=p.cam.scales,
        flip=p.cam.flip,
        crops=0,
        crop_scale=p.features.scale,
        colour=p.features.colour,
        image_size=p.clip.image_size,
        patch=encoder.patch,
        seed=0,
    )
    batches = rendered(records, encoder, recipe, BATCH[size.name])
    views = sum(len(batch) for batch in batches)

    def cache() -> None:
        shutil.rmtree(folder / "features", ignore_errors=True)
        cache_features(
            records,
            encoder,
            recipe,
            folder / "features",
            shard_bytes=SHARD_BYTES,
            batch_size=BATCH[size.name],
            workers=workers(),
        )

    def encode() -> None:
        with torch.inference_mode():
            for batch in batches:
                encoder(batch)

    encoder(batches[0])
    seconds = alternate({"cache": timed(cache), "bare": timed(encode)}, rounds, warm_up=0)
    pair = Pair(seconds["cache"], seconds["bare"])
    what = f"caching {len(records)} photos as {views} views, the bare encoder forward on them; {size.name} size"
    return compared("cache_vs_encoder", pair, what, bar=0.95, views=views)


def rendered(records: Sequence[Record], encoder: ImageEncoder, recipe: ViewRecipe, batch_size: int) -> list[Tensor]:
    """The batches (B, 3, h, w) that caching makes."""
    token_bytes = 2 * encoder.width * len(encoder.blocks)
    shards = plan_shards(records, recipe, token_bytes=token_bytes, shard_bytes=SHARD_BYTES)
    batches = []
    for shard in shards:
        for batch in shard.batches(batch_size):
            views = [shard.rows[row] for row in batch]
            pixels = [torch.from_numpy(render_photo(read_photo(record.photo), view)) for record, view in views]
            batches.append(torch.stack(pixels).permute(0, 3, 1, 2).contiguous())
    return batches


if __name__ == "__main__":
    run(measure)
