"""Run the frozen CLIP image encoder over all training photos once and keep its tokens.

Reads:  ``data/dataset``, photos.
Writes: ``data/features/`` (HDF5 shards and their index).
Params: ``clip``, ``features``, ``cam.scales``, ``cam.flip``, ``seed``.
Costs:  an encoder forward for each view of each photo, and the disk that it forecasts; 53 s for the mini world on two cores.
"""

import time
from pathlib import Path

from stages import _cli
from weakclip import params as parameters
from weakclip.clip.image_encoder import ImageEncoder
from weakclip.clip.model import load_clip
from weakclip.datasets.index import read_dataset
from weakclip.device import device
from weakclip.features.blocks import block_widths
from weakclip.features.cache import cache_features
from weakclip.features.forecast import describe, seconds_per_token
from weakclip.features.plan import ViewRecipe
from weakclip.features.size import cache_size
from weakclip.features.token_formats import FORMATS
from weakclip.progress import close_with, duration, say
from weakclip.ranks import leave_to_main
from weakclip.resume import ResumeSlot, fingerprint, import_closure
from weakclip.runlog import write_metrics
from weakclip.second_encoder import load_second_encoder, paired
from weakclip.workers import workers


def main(
    params: Path = Path("params.yaml"),
    dataset: Path = Path("data/dataset"),
    out: Path = Path("data/features"),
    metrics: Path = Path("data/results/cache_features/metrics.json"),
) -> None:
    """Run the frozen CLIP image encoder over all training photos once and keep its tokens."""
    p = parameters.load(params)
    records = read_dataset(dataset).training
    clip = ImageEncoder(load_clip(p.clip.model, p.clip.weights), p.clip.blocks, p.clip.precision)
    encoder = paired(clip, load_second_encoder(p.features.second_encoder, p.features.second_weights)).to(device())
    recipe = view_recipe(p, encoder.patch)
    slot = ResumeSlot.open(
        "cache_features",
        fingerprint(
            stage="cache_features",
            params={
                "seed": p.seed,
                "clip": p.clip.model_dump(mode="json"),
                "features": p.features.model_dump(mode="json"),
                "cam": {"scales": p.cam.scales, "flip": p.cam.flip},
                "encoder": encoder.attributes,
            },
            inputs=[dataset],
            code=import_closure(Path(__file__), Path(__file__).parents[1]),
        ),
    )
    token_format = FORMATS[p.features.dtype]
    total = cache_size(records, recipe, token_format, block_widths(encoder.blocks, encoder.width, encoder.attributes))
    say(f"  {describe(total, seconds_per_token(encoder, p.clip.image_size, encoder.patch))}")
    start = time.monotonic()
    stored = cache_features(
        records,
        encoder,
        recipe,
        slot.folder / "features",
        shard_bytes=round(p.features.shard_gigabytes * 1e9),
        workers=workers(),
        token_format=token_format,
    )
    leave_to_main()
    seconds = time.monotonic() - start
    figures = {"images": stored.images, "total_views": stored.views, "gigabytes": stored.n_bytes / 1e9}
    write_metrics(slot.folder / "metrics.json", {"features": figures})
    slot.publish("features", out)
    slot.publish("metrics.json", metrics)
    slot.close()
    pace = f"in {duration(seconds)}, {stored.images / seconds:,.1f} images/s"
    close_with(f"{stored.images:,} images, {stored.views:,} views {pace}", out)


def view_recipe(p: parameters.Params, patch: int) -> ViewRecipe:
    """The views that the parameters ask for; patch is the encoder's."""
    return ViewRecipe(
        scales=p.cam.scales,
        flip=p.cam.flip,
        crops=p.features.views,
        crop_scale=p.features.scale,
        colour=p.features.colour,
        image_size=p.clip.image_size,
        patch=patch,
        seed=p.seed,
    )


if __name__ == "__main__":
    _cli.run(main)
