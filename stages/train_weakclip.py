"""Adapt CLIP to the seeds: prompts, co-attention, pyramid adapter and text-guided decoder (WeakCLIP section 3).

Reads:  ``data/dataset``, ``data/features``, ``data/cam/seeds``, photos (for the boundary loss).
Writes: ``data/weakclip/`` (weights and card).
Params: ``lr``, ``seed``, ``weakclip``, ``clip.precision``, ``features.scale``, ``features.colour`` (when encoding online).
Costs:  ``weakclip.iterations`` steps; a GPU for ViT-B/16; 81 s for the mini world on two cores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from stages._cli import run
from stages._kernels import boundary_kernel
from weakclip.adaptation import AdaptationSchedule, Tuning, Validation, adapt
from weakclip.clip.model import load_same_clip
from weakclip.datasets.index import Record, read_dataset
from weakclip.device import device
from weakclip.errors import WeakClipError
from weakclip.features.store import FeatureStore
from weakclip.heap import give_back
from weakclip.network.trained import save_weakclip
from weakclip.network.variants import Network, build_variant
from weakclip.network.weakclip import WeakClipSizes
from weakclip.objective import Objective
from weakclip.params import Params, load
from weakclip.pixel_loss import LossClamp
from weakclip.prefetch import Prefetcher
from weakclip.progress import close_with
from weakclip.ranks import leave_to_main, world
from weakclip.released.training import RELEASED_TUNING, image_batch_maker, released_objective
from weakclip.resume import ResumeSlot, fingerprint, import_closure
from weakclip.runlog import StepLog, write_metrics
from weakclip.sampling import held_out
from weakclip.second_encoder import load_same_second_encoder
from weakclip.seeding import seed_torch
from weakclip.supervision import Batch, CachedViews, OnlineViews, batch_maker
from weakclip.training_augmentation import TrainingAugmentation
from weakclip.workers import workers

DECODING_THREADS = 8  # at most: each holds a batch of photos


def main(
    params: Path = Path("params.yaml"),
    dataset: Path = Path("data/dataset"),
    features: Path = Path("data/features"),
    seeds: Path = Path("data/cam/seeds"),
    out: Path = Path("data/weakclip"),
    metrics: Path = Path("data/results/train_weakclip/metrics.json"),
    plots: Path = Path("data/results/train_weakclip/plots"),
) -> None:
    """Train WeakCLIP on the seeds."""
    p = load(params)
    index = read_dataset(dataset)
    store = FeatureStore(features)
    check_variant(p, store)
    clip = load_same_clip(
        store.attributes["model"], store.attributes["weights"], store.attributes["weights_hash"], str(features)
    )
    second = load_same_second_encoder(store.attributes.get("second"), str(features))
    settings = {
        "lr": p.lr,
        "seed": p.seed,
        "precision": p.clip.precision,
        **p.weakclip.model_dump(mode="json", exclude={"recompute"}),
    }
    if not store.attributes["crop_views"]:
        settings |= {"scale": p.features.scale, "colour": p.features.colour, "base_size": p.masks.base_size}
    code = import_closure(Path(__file__), Path(__file__).parents[1])
    key = fingerprint(stage="train_weakclip", params=settings, inputs=[dataset, features / "index.json", seeds], code=code)
    slot = ResumeSlot.open("train_weakclip", key)
    (slot.folder / "plots").mkdir(exist_ok=True)

    seed_torch(p.seed, "weakclip")
    sizes = WeakClipSizes(**p.weakclip.model_dump(include=set(WeakClipSizes.__dataclass_fields__)))
    classes, image_size, variant = index.classes, store.attributes["image_size"], p.weakclip.variant
    network = build_variant(
        variant,
        clip,
        blocks=store.blocks,
        classes=classes,
        sizes=sizes,
        image_size=image_size,
        precision=p.clip.precision,
        second=second,
        recompute=p.weakclip.recompute,
    )
    model = network.model
    marked = held_out(len(index.training), p.weakclip.held_out_share, p.seed)
    trained = [record for record, mark in zip(index.training, marked, strict=True) if not mark]
    validation = Validation(
        records=[record for record, mark in zip(index.training, marked, strict=True) if mark],
        store=store,
        seed_folder=seeds,
        num_classes=classes.num_classes,
    )
    make, aim, tuning = training(p, network, store, trained, seeds)
    log = StepLog(slot.folder / "plots", shown=plots)
    # The network has an encoder of its own: a batch is photos that are decoded and distorted, and that is slow.
    threads = min(workers(), DECODING_THREADS) if network.model.encoder is not None else 1
    with closing(Prefetcher(make, last=p.weakclip.iterations - 1, threads=threads)) as batches:
        adapt(model, batches, aim, schedule(p), validation, seed=p.seed, folder=slot.folder, log=log, tuning=tuning)
    log.close()
    leave_to_main()
    save_weakclip(
        slot.folder / "weakclip",
        model,
        clip,
        variant=variant,
        blocks=store.blocks,
        image_size=image_size,
        sizes=sizes,
        classes=classes,
        second=second,
    )
    figures = validation(model)
    held = {name.removeprefix("held_out_"): value for name, value in figures.items()} | {"n": int(np.sum(marked))}
    sharpener = {"boundary_algorithm": p.weakclip.boundary_algorithm} if aim.boundary_weight > 0 else {}
    write_metrics(metrics, {"held_out": held, **sharpener})
    slot.publish("weakclip", out)
    slot.publish("plots", plots)
    slot.close()
    words = {"held_out_agreement": "agreement with the seeds of held-out photos", "held_out_miou": "mIoU on them"}
    close_with(", ".join(f"{value} {words[name]}" for name, value in figures.items()), out)


def check_variant(p: Params, store: FeatureStore) -> None:
    """Published as released: its encoder moves, so features of a frozen one are of no use, and nothing can be left out."""
    w = p.weakclip
    if w.variant != "published":
        return
    if store.attributes["crop_views"]:
        raise WeakClipError(
            "weakclip.variant published trains the encoder, and features.views keeps features of a frozen one",
            "set features.views to 0: `dvc exp run -S features.views=0 -S weakclip.variant=published`",
        )
    if w.loss_clamp_patch or w.balanced_score_map or w.affinity_weight or w.boundary_algorithm != "dense_crf":
        raise WeakClipError(
            "weakclip.variant published has the released losses: no clamp, no balance, no affinity, and the dense CRF",
            "set loss_clamp_patch and affinity_weight to 0, balanced_score_map to false and boundary_algorithm to dense_crf, "
            "all of weakclip, or weakclip.variant to repaired",
        )
    if w.recompute:
        raise WeakClipError(
            "weakclip.variant published has batch norms, which would count a batch twice if its values were computed again",
            "set weakclip.recompute to false, or weakclip.variant to repaired",
        )
    if not (w.pyramid_adapter and w.co_attention and w.token_crop == 1):
        raise WeakClipError(
            "weakclip.variant published has its pyramid adapter and co-attention, and sees views whole",
            "set weakclip.pyramid_adapter and co_attention to true and token_crop to 1.0, or weakclip.variant to repaired",
        )


def training(
    p: Params, network: Network, store: FeatureStore, records: Sequence[Record], seeds: Path
) -> tuple[Callable[[int], Batch], Objective, Tuning]:
    """Batches, losses and rates of the variant."""
    w = p.weakclip
    part = world().part(w.batch_size, "weakclip.batch_size")
    if w.variant == "published":
        augmentation = TrainingAugmentation(
            base_size=p.masks.base_size,
            scale=p.features.scale,
            crop_size=store.attributes["image_size"],
            fill=network.encoder.mean.flatten().tolist(),
        )
        make = image_batch_maker(
            records, augmentation, network.model, seeds, batch_size=w.batch_size, seed=p.seed, size=w.loss_size, part=part
        )
        return make, released_objective(objective(p), (w.loss_size, w.loss_size)), RELEASED_TUNING
    network.model.text_encoder.release()
    views: CachedViews | OnlineViews
    if store.attributes["crop_views"]:
        views = CachedViews(store)
        network.encoder.release()
    else:
        views = OnlineViews(
            encoder=network.encoder.to(device()),
            scale=p.features.scale,
            colour=p.features.colour,
            image_size=store.attributes["image_size"],
        )
    give_back()
    make = batch_maker(
        records,
        views,
        seeds,
        batch_size=w.batch_size,
        seed=p.seed,
        size=w.loss_size,
        patch=network.encoder.patch,
        crop=w.token_crop,
        part=part,
    )
    return make, objective(p), Tuning()


def objective(p: Params) -> Objective:
    """The weighted losses that the parameters ask for."""
    w = p.weakclip
    return Objective(
        boundary_weight=w.boundary_weight,
        boundary_kernel=boundary_kernel(w),
        score_map_weight=w.score_map_weight,
        score_map_temperature=w.score_map_temperature,
        clamp=LossClamp(w.loss_clamp_patch, w.loss_clamp_start) if w.loss_clamp_patch else None,
        balanced_score_map=w.balanced_score_map,
        affinity_weight=w.affinity_weight,
        affinity_radius=w.affinity_radius,
    )


def schedule(p: Params) -> AdaptationSchedule:
    """Steps and rates that the parameters ask for."""
    w = p.weakclip
    return AdaptationSchedule(
        lr=p.lr,
        iterations=w.iterations,
        warmup=w.warmup,
        weight_decay=w.weight_decay,
        validate_every=w.validate_every,
        checkpoint_every=w.checkpoint_every,
        micro_batches=micro_batches(p),
    )


def micro_batches(p: Params) -> int:
    """As many as there may be and divide a process's images; one where no CPU core computes for the boundary loss, and where
    norms need the batch as a whole."""
    w = p.weakclip
    on_cores = w.boundary_weight > 0 and w.boundary_algorithm == "dense_crf" and w.boundary_crf.backend == "pydensecrf"
    if w.variant == "published" or not on_cores:
        return 1
    part = world().part(w.batch_size, "weakclip.batch_size")
    images = part.stop - part.start
    return max(count for count in range(1, min(w.micro_batches, images) + 1) if images % count == 0)


if __name__ == "__main__":
    run(main)
