"""Adapt CLIP to the seeds: prompts, co-attention, pyramid adapter and text-guided decoder (WeakCLIP section 3).

Reads:  ``data/dataset``, ``data/features``, ``data/cam/seeds``, photos (for the boundary loss).
Writes: ``data/weakclip/`` (weights and card).
Params: ``lr``, ``seed``, ``weakclip``, ``features.scale``, ``features.colour`` (when encoding online).
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np

from stages._cli import run
from weakclip.adaptation import AdaptationSchedule, Validation, adapt
from weakclip.clip.image_encoder import ImageEncoder
from weakclip.clip.model import Clip, load_same_clip
from weakclip.crf import CrfKernel
from weakclip.datasets.index import read_dataset
from weakclip.errors import WeakClipError
from weakclip.features.store import FeatureStore
from weakclip.network.trained import save_weakclip
from weakclip.network.weakclip import WeakClipSizes, build_weakclip
from weakclip.objective import Objective
from weakclip.params import Params, load
from weakclip.prefetch import Prefetcher
from weakclip.progress import say
from weakclip.resume import ResumeSlot, fingerprint, import_closure
from weakclip.runlog import StepLog, write_metrics
from weakclip.sampling import held_out
from weakclip.seeding import seed_torch
from weakclip.supervision import CachedViews, OnlineViews, batch_maker


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
    refuse_published(p)
    index = read_dataset(dataset)
    store = FeatureStore(features)
    clip = load_same_clip(
        store.attributes["model"], store.attributes["weights"], store.attributes["weights_hash"], str(features)
    )
    settings = {"lr": p.lr, "seed": p.seed, **p.weakclip.model_dump(mode="json")}
    if not store.attributes["crop_views"]:
        settings |= {"scale": p.features.scale, "colour": p.features.colour}
    code = import_closure(Path(__file__), Path(__file__).parents[1])
    key = fingerprint(stage="train_weakclip", params=settings, inputs=[dataset, features / "index.json", seeds], code=code)
    slot = ResumeSlot.open("train_weakclip", key)
    (slot.folder / "plots").mkdir(exist_ok=True)

    seed_torch(p.seed, "weakclip")
    sizes = WeakClipSizes(**p.weakclip.model_dump(include=set(WeakClipSizes.__dataclass_fields__)))
    classes = index.classes
    model = build_weakclip(
        clip, class_names=classes.names, synonyms=classes.synonyms, background_words=classes.background_words, sizes=sizes
    )
    marked = held_out(len(index.training), p.weakclip.held_out_share, p.seed)
    trained = [record for record, mark in zip(index.training, marked, strict=True) if not mark]
    validation = Validation(
        records=[record for record, mark in zip(index.training, marked, strict=True) if mark],
        store=store,
        seed_folder=seeds,
        num_classes=classes.num_classes,
    )
    make = batch_maker(
        trained,
        views(p, store, clip),
        seeds,
        batch_size=p.weakclip.batch_size,
        seed=p.seed,
        size=p.weakclip.loss_size,
        patch=clip.patch,
        crop=p.weakclip.token_crop,
    )
    log = StepLog(slot.folder / "plots")
    with closing(Prefetcher(make, last=p.weakclip.iterations - 1)) as batches:
        adapt(model, batches, objective(p), schedule(p), validation, seed=p.seed, folder=slot.folder, log=log)
    log.close()
    save_weakclip(slot.folder / "weakclip", model, clip, store, sizes, classes, p.weakclip.variant)
    figures = validation(model)
    write_metrics(
        metrics,
        {"held_out": {name.removeprefix("held_out_"): value for name, value in figures.items()} | {"n": int(np.sum(marked))}},
    )
    slot.publish("weakclip", out)
    slot.publish("plots", plots)
    slot.close()
    say("  " + "  ".join(f"{name.replace('_', ' ')} {value}" for name, value in figures.items()))


def refuse_published(p: Params) -> None:
    if p.weakclip.variant == "published":
        raise WeakClipError("weakclip.variant published is not there yet", "set weakclip.variant to repaired")


def views(p: Params, store: FeatureStore, clip: Clip) -> CachedViews | OnlineViews:
    """Stored crops where the features hold any, else crops encoded while training."""
    if store.attributes["crop_views"]:
        return CachedViews(store)
    encoder = ImageEncoder(clip, store.blocks)
    return OnlineViews(
        encoder=encoder, scale=p.features.scale, colour=p.features.colour, image_size=store.attributes["image_size"]
    )


def objective(p: Params) -> Objective:
    w = p.weakclip
    return Objective(
        boundary_weight=w.boundary_weight,
        boundary_kernel=CrfKernel(**w.boundary_crf.model_dump()),
        score_map_weight=w.score_map_weight,
        score_map_temperature=w.score_map_temperature,
    )


def schedule(p: Params) -> AdaptationSchedule:
    w = p.weakclip
    return AdaptationSchedule(
        lr=p.lr,
        iterations=w.iterations,
        warmup=w.warmup,
        weight_decay=w.weight_decay,
        validate_every=w.validate_every,
        checkpoint_every=w.checkpoint_every,
    )


if __name__ == "__main__":
    run(main)
