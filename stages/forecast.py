"""What each stage will take with these parameters and this dataset, on this machine: forecast from a few short measurements."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import torch

from stages._kernels import mask_kernel
from stages.cache_features import view_recipe
from weakclip import forecast as of
from weakclip.clip.image_encoder import ImageEncoder
from weakclip.clip.model import Clip, untrained_clip
from weakclip.crf import CrfKernel
from weakclip.datasets.index import Dataset, Record
from weakclip.deeplab.model import build_deeplab
from weakclip.deeplab.network import DeepLab
from weakclip.device import arithmetic, device
from weakclip.features.blocks import block_widths
from weakclip.features.forecast import seconds_per_token, wait
from weakclip.features.plan import ViewRecipe
from weakclip.features.size import cache_size
from weakclip.features.token_formats import FORMATS
from weakclip.params import Params
from weakclip.second_encoder import EncoderPair, load_second_encoder, paired
from weakclip.sharpening import Kernel, processes, sharpened

CROP: Final = 240, 320  # of the photo that the CRF is timed on
CROPS: Final = 4  # for the DeepLab at once: one alone would be slower than in a batch


def forecasts(p: Params, index: Dataset) -> list[of.Forecast]:
    """The forecast of each stage after `prepare_dataset`."""
    clip = untrained_clip(p.clip.model)
    encoder = paired(
        ImageEncoder(clip, p.clip.blocks, p.clip.precision), load_second_encoder(p.features.second_encoder, "none")
    ).to(device())
    recipe = view_recipe(p, encoder.patch)
    whole = replace(recipe, crops=0)
    training, val, foreground = index.training, index.val, len(index.classes.names)
    features = cache_size(
        training,
        recipe,
        FORMATS[p.features.dtype],
        block_widths(encoder.blocks, encoder.width, encoder.attributes),
    )
    pace = paces(p, encoder, index.classes.num_classes)
    view = 1 + (p.clip.image_size // encoder.patch) ** 2
    step = of.step_passes(p.weakclip.variant, recompute=p.weakclip.recompute, online=p.features.views == 0)
    windows = of.window_tokens(
        training,
        scales=p.masks.scales,
        flip=p.masks.flip,
        base_size=p.masks.base_size,
        window=p.clip.image_size,
        stride=p.masks.stride,
        patch=encoder.patch,
    )
    scored = of.labels(training, foreground, limited=p.masks.tag_filter)
    refined = of.labels(training, foreground, limited=p.masks.tag_filter or p.crf.tag_limited)
    mask = of.mask_bytes(training)
    maps = of.map_bytes(training, whole) if p.cam.source != "import" else 0  # which comes with its own
    crop = p.deeplab.crop_size**2
    views = sum(scale**2 for scale in p.evaluate.scales) * (2 if p.evaluate.flip else 1)
    sharpened_after = of.pixels(val) * of.LABELS * pace.evaluation_label / processes(evaluation_kernel(p))
    taken = {
        "cache_features": (features.n_bytes, features.tokens * pace.token),
        "train_cam": (maps + 2 * mask, cam_seconds(p, clip, training, whole)),
        "train_weakclip": (0, p.weakclip.iterations * p.weakclip.batch_size * view * step * pace.token),
        "generate_masks": (of.HALF * scored + mask, windows * (1 + of.DECODER) * pace.token),
        "refine_masks": (2 * mask, refined * pace.crf_label / processes(mask_kernel(p.crf))),
        "retrain_deeplab": (0, p.deeplab.iterations * p.deeplab.batch_size * crop * of.TRAINING * pace.training_pixel),
        "evaluate": (of.mask_bytes(val), of.pixels(val) * views * pace.deeplab_pixel + sharpened_after),
    }
    return [of.Forecast(stage=stage, n_bytes=n_bytes, seconds=seconds) for stage, (n_bytes, seconds) in taken.items()]


def cam_seconds(p: Params, clip: Clip, training: Sequence[Record], whole: ViewRecipe) -> float:
    """Of train_cam: the classifier, what passes CLIP once more, and the seeds. ``whole``: the views of whole photos."""
    seconds = of.pixels(training) * of.SEED_SECONDS
    if p.cam.source == "classifier":
        trained = p.cam.iterations * p.cam.batch_size * (1 + (p.clip.image_size // clip.patch) ** 2)
        seconds += (trained + sum(map(whole.image_tokens, training))) * clip.width * of.CLASSIFIER_SECONDS
    again = of.tokens_again(
        training,
        whole,
        source=p.cam.source,
        calibrated_blocks=p.cam.calibrated_blocks,
        affinity_blocks=p.cam.affinity_blocks,
        blocks=p.clip.blocks,
        depth=clip.depth,
    )
    if again:
        alone = ImageEncoder(clip, p.clip.blocks).to(device())  # in float32 whatever the precision of features, as the stage
        seconds += again * seconds_per_token(alone, p.clip.image_size, clip.patch)
    return seconds


def paces(p: Params, encoder: ImageEncoder | EncoderPair, num_classes: int) -> of.Pace:
    """Time the encoder on two views, each CRF on a small photo and the DeepLab on a few crops."""
    deeplab = build_deeplab(
        network=p.deeplab.network,
        encoder=p.deeplab.encoder,
        encoder_weights="none",
        num_classes=num_classes,
        output_stride=p.deeplab.output_stride,
    )
    deeplab.to(device()).eval()
    side, precision = p.deeplab.crop_size, p.deeplab.precision
    pixel = seconds_per_pixel(deeplab, side)
    return of.Pace(
        token=seconds_per_token(encoder, p.clip.image_size, encoder.patch),
        crf_label=seconds_per_label(mask_kernel(p.crf)),
        evaluation_label=seconds_per_label(evaluation_kernel(p)) if p.evaluate.crf.iterations > 0 else 0.0,
        deeplab_pixel=pixel,
        training_pixel=pixel if precision == "float32" else seconds_per_pixel(deeplab, side, precision),
    )


def seconds_per_pixel(deeplab: DeepLab, side: int, precision: str = "float32") -> float:
    """Of a forward pass over crops of ``side`` pixels: measured on a few, after a first time that does not count."""
    crops = torch.zeros(CROPS, 3, side, side, device=device())
    with torch.inference_mode(), arithmetic(precision):
        deeplab(crops)
        wait()
        start = time.perf_counter()
        deeplab(crops)
        wait()
    return (time.perf_counter() - start) / (CROPS * side**2)


def evaluation_kernel(p: Params) -> CrfKernel:
    """Of the CRF after the DeepLab."""
    return CrfKernel(**p.evaluate.crf.model_dump())


def seconds_per_label(kernel: Kernel) -> float:
    """Of what sharpens masks, for each pixel and label: measured on a small photo, after a first time that does not count."""
    noise = np.random.default_rng(0)
    photo = np.clip(np.linspace(60, 200, CROP[1])[:, None] + noise.normal(0, 6, (*CROP, 3)), 0, 255).astype(np.uint8)
    probabilities = noise.dirichlet([1] * of.LABELS, CROP).transpose(2, 0, 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if processes(kernel) > 1 else threads)  # of a process, where there are several
    sharpened(photo, probabilities, kernel)  # the first time is longer where it is made on a GPU
    start = time.perf_counter()
    sharpened(photo, probabilities, kernel)
    seconds = time.perf_counter() - start
    torch.set_num_threads(threads)
    return seconds / (CROP[0] * CROP[1] * of.LABELS)
