"""Caching, training and mask generation on an accelerator, beside what its largest matrix products reach.

Not part of `make bench`. docs/performance.md has what it found on an H100.
`WEAKCLIP_DEVICE` chooses the device.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import torch
import typer
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.command import scratch
from benchmarks.machine import commit, machine, versions
from benchmarks.rows import significant, write_json
from benchmarks.samples import draw_dataset
from benchmarks.sides import Side
from benchmarks.sizes import LARGE_BATCH, MINI, Size
from benchmarks.train_step import prepare, recipe_of, step_by_step
from weakclip.clip.image_encoder import ImageEncoder
from weakclip.datasets.index import Record, read_dataset
from weakclip.device import device
from weakclip.features.cache import cache_features
from weakclip.images import read_photo
from weakclip.inference import Fusion, Predict, fuse_probabilities, views_of
from weakclip.network.variants import Network, build_variant
from weakclip.pseudo_masks import predictor
from weakclip.workers import workers

PRECISIONS: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16}
SIDE: Final = {"full": 8192, "quick": 256}  # of the matrices
REPEATS: Final = 20


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """``flops``: floating-point operations of one image, a multiplication and an addition counted as two."""

    name: str
    images_per_second: float
    flops: float

    def share(self, peak: float) -> float:
        """Of operations a second."""
        return self.images_per_second * self.flops / peak


def main(
    quick: Annotated[bool, typer.Option("--quick", help="a tiny size, to see that it works")] = False,
    precision: Annotated[str, typer.Option(help="what networks compute in: float32 or bfloat16")] = "bfloat16",
    out: Annotated[Path | None, typer.Option(help="JSON file for the results")] = None,
) -> None:
    """Images a second of caching, training and mask generation, and their share of the card's measured peak."""
    size = MINI if quick else LARGE_BATCH
    peaks = {name: measured_peak(kind, SIDE["quick" if quick else "full"]) for name, kind in PRECISIONS.items()}
    with scratch() as folder:
        prepare(size, folder)
        parts: dict[str, Callable[[], list[Throughput]]] = {
            "caching": lambda: [measure_caching(size, folder, quick, precision)],
            "training": lambda: measure_training(size, folder, precision),
            "mask generation": lambda: [measure_masks(size, folder, quick, precision)],
        }
        found = []
        for name, measure in parts.items():
            start = time.monotonic()
            rows = measure()
            found += rows
            rates = ", ".join(f"{row.name} {row.images_per_second:.4g} images/s" for row in rows)
            print(f"{name}: {rates}; measured in {time.monotonic() - start:.0f} s", flush=True)
    print(
        f"{card()}, networks in {precision}: "
        + ", ".join(f"{peak / 1e12:.4g} TFLOP/s in {name}" for name, peak in peaks.items())
    )
    print("path                       images/s  GFLOP/image  " + "  ".join(f"share of {name}" for name in peaks))
    for one in found:
        shares = "  ".join(f"{100 * one.share(peak):.1f} %".ljust(len(f"share of {name}")) for name, peak in peaks.items())
        print(f"{one.name:25}  {one.images_per_second:<8.4g}  {one.flops / 1e9:<11.4g}  {shares}".rstrip())
    if out is not None:
        write_json(
            out,
            {"card": card(), "precision": precision, "machine": machine(), "versions": versions(), "commit": commit()}
            | content(found, peaks),
        )


def measured_peak(kind: torch.dtype, side: int) -> float:
    """Operations a second of the product of two large square matrices."""
    left, right = (torch.randn(side, side, device=device(), dtype=kind) for _ in range(2))
    return 2 * side**3 / seconds_of(lambda: left @ right, REPEATS)


def seconds_of(work: Callable[[], object], repeats: int) -> float:
    """Seconds of one call, the device's work finished; one call before does not count."""
    work()
    finish()
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    finish()
    return (time.perf_counter() - start) / repeats


def finish() -> None:
    if device().type == "cuda":
        torch.cuda.synchronize()


def card() -> str:
    return torch.cuda.get_device_name(device()) if device().type == "cuda" else "CPU"


def measure_caching(size: Size, folder: Path, quick: bool, precision: str) -> Throughput:
    """Whole views of photos, decoding and writing included; an image is a view."""
    p, (height, width) = size.params(), size.photo
    records = draw_dataset(folder / "caching", 4 if quick else 128, height=height, width=width, classes=size.classes).records
    encoder = ImageEncoder(size.clip(), p.clip.blocks, precision).to(device())
    recipe = recipe_of(p, encoder.patch, crops=0)
    view = recipe.views(records[0])[0]
    pixels = torch.zeros(1, 3, view.height, view.width)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        encoder(pixels)
    start = time.perf_counter()
    stored = cache_features(records, encoder, recipe, folder / "caching" / "features", shard_bytes=10**9, workers=workers())
    seconds = time.perf_counter() - start
    return Throughput(name="caching", images_per_second=stored.views / seconds, flops=counter.get_total_flops())


def measure_training(size: Size, folder: Path, precision: str) -> list[Throughput]:
    """Steps from cached features, as in the preset, in one micro-batch and with the boundary CRF in torch, and encoded online.

    Operations are those of the network's passes.
    """
    steps = 4
    found = []
    for kind in ("cached", "one_micro_batch", "crf_in_torch", "online"):
        with ExitStack() as stack:
            side = stack.enter_context(
                Side(step_by_step, folder, size.name, kind, precision, environment={"WEAKCLIP_DEVICE": str(device())})
            )
            seconds = [side() for _ in range(1 + steps)][1:]
        rate = size.batch_size * steps / sum(seconds)
        found.append(
            Throughput(name=f"training {kind}".replace("_", " "), images_per_second=rate, flops=training_flops(size, kind))
        )
    return found


def training_flops(size: Size, kind: str) -> float:
    """Of an image in a training step: forward and backward of what is trained, and the encoder's forward if it is online."""
    p, network = size.params(), build(size, "float32")
    side = p.clip.image_size
    with torch.no_grad(), FlopCounterMode(display=False) as encoding:
        tokens = network.encoder(torch.zeros(1, 3, side, side))
    grid = side // network.encoder.patch
    with FlopCounterMode(display=False) as learning:
        logits, scores = network.model.train()([block.detach() for block in tokens], grid, grid)
        (logits.mean() + scores.mean()).backward()
    return float(learning.get_total_flops() + (encoding.get_total_flops() if kind == "online" else 0))


def measure_masks(size: Size, folder: Path, quick: bool, precision: str) -> Throughput:
    """The preset's views of photos, fused; an image is a photo."""
    network, p = build(size, precision), size.params()
    fusion = Fusion(
        scales=p.masks.scales,
        flip=p.masks.flip,
        base_size=p.masks.base_size,
        window=p.clip.image_size,
        stride=p.masks.stride,
        patch=network.encoder.patch,
        multiple=network.multiple,
        resize=network.resize,
    )
    predict = predictor(network.model, network.encoder)
    records: Sequence[Record] = read_dataset(folder / "dataset").training[: 2 if quick else 8]
    photos = [read_photo(record.photo) for record in records]
    num_classes = size.classes.num_classes
    # Counted window by window, for the threads in which a CPU takes them are not seen; few sizes occur.
    windows: list[tuple[int, int]] = []
    for view in views_of(photos[0], num_classes, fusion):
        heights, widths = ([end - start for start, end in fusion.windows_along(side)] for side in view.count.shape)
        windows += itertools.product(heights, widths)
    flops = sum(times * flops_of(predict, window) for window, times in Counter(windows).items())
    seconds = seconds_of(lambda: list(fuse_probabilities(predict, photos, num_classes, fusion)), 1 if quick else 3)
    return Throughput(name="mask generation", images_per_second=len(photos) / seconds, flops=flops)


@torch.inference_mode()
def flops_of(predict: Predict, window: tuple[int, int]) -> int:
    """Of one window of that height and width."""
    with FlopCounterMode(display=False) as counter:
        predict(torch.zeros(1, 3, *window))
    return int(counter.get_total_flops())


def build(size: Size, precision: str) -> Network:
    """The repaired network of a size, on the device."""
    p = size.params().clip
    network = build_variant(
        "repaired",
        size.clip(),
        blocks=p.blocks,
        classes=size.classes,
        sizes=size.sizes(),
        image_size=p.image_size,
        precision=precision,
    )
    network.model.to(device())
    network.encoder.to(device())
    return network


def content(found: list[Throughput], peaks: dict[str, float]) -> dict[str, object]:
    """What JSON holds of it."""
    return {
        "peak_teraflops": {name: significant(peak / 1e12) for name, peak in peaks.items()},
        "rows": [
            {
                "name": one.name,
                "images_per_second": significant(one.images_per_second),
                "gigaflops_an_image": significant(one.flops / 1e9),
                "shares": {name: significant(one.share(peak)) for name, peak in peaks.items()},
            }
            for one in found
        ],
    }


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(main)
    app()
