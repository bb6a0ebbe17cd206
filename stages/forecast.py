"""What each stage will take with these parameters and this dataset, on this machine: forecast from three short measurements."""

from __future__ import annotations

import time
from typing import Final

import numpy as np
import torch

from stages._kernels import mask_kernel
from stages.cache_features import view_recipe
from weakclip import forecast as of
from weakclip.clip.image_encoder import ImageEncoder
from weakclip.clip.model import untrained_clip
from weakclip.datasets.index import Dataset
from weakclip.deeplab.model import build_deeplab
from weakclip.device import device
from weakclip.features.blocks import block_widths
from weakclip.features.forecast import seconds_per_token, wait
from weakclip.features.size import cache_size
from weakclip.features.token_formats import FORMATS
from weakclip.params import Params
from weakclip.second_encoder import EncoderPair, load_second_encoder, paired
from weakclip.sharpening import processes, sharpened

CROP: Final = 240, 320  # of the photo that the CRF is timed on
CROPS: Final = 4  # for the DeepLab at once: one alone would be slower than in a batch


def forecasts(p: Params, index: Dataset) -> list[of.Forecast]:
    """The forecast of each stage."""
    clip = ImageEncoder(untrained_clip(p.clip.model), p.clip.blocks)
    encoder = paired(clip, load_second_encoder(p.features.second_encoder, "none")).to(device())
    recipe = view_recipe(p, encoder.patch)
    training, val = index.training, index.val
    features = cache_size(
        training,
        recipe,
        FORMATS[p.features.dtype],
        block_widths(encoder.blocks, encoder.width, encoder.attributes),
    )
    pace = paces(p, encoder, index.classes.num_classes)
    view = 1 + (p.clip.image_size // encoder.patch) ** 2
    windows = of.window_tokens(
        training,
        scales=p.masks.scales,
        flip=p.masks.flip,
        base_size=p.masks.base_size,
        window=p.clip.image_size,
        stride=p.masks.stride,
        patch=encoder.patch,
    )
    step = of.CACHED_STEP if p.features.views else of.ONLINE_STEP
    mask = of.MASK_BYTES * of.pixels(training)
    views = sum(scale**2 for scale in p.evaluate.scales) * (2 if p.evaluate.flip else 1)
    crop = p.deeplab.crop_size**2
    classified = p.cam.iterations * p.cam.batch_size * view + features.tokens if p.cam.source == "classifier" else 0
    taken = {
        "cache_features": (features.n_bytes, features.tokens * pace.token),
        "train_cam": (2 * mask, classified * of.CLASSIFIER_SECONDS),
        "train_weakclip": (0, p.weakclip.iterations * p.weakclip.batch_size * view * step * pace.token),
        "generate_masks": (of.score_bytes(training) + mask, windows * (1 + of.DECODER) * pace.token),
        "refine_masks": (2 * mask, of.pixels(training) * pace.crf_pixel / processes(mask_kernel(p.crf))),
        "retrain_deeplab": (0, p.deeplab.iterations * p.deeplab.batch_size * crop * of.TRAINING * pace.deeplab_pixel),
        "evaluate": (of.MASK_BYTES * of.pixels(val), of.pixels(val) * views * pace.deeplab_pixel),
    }
    return [of.Forecast(stage=stage, n_bytes=n_bytes, seconds=seconds) for stage, (n_bytes, seconds) in taken.items()]


def paces(p: Params, encoder: ImageEncoder | EncoderPair, num_classes: int) -> of.Pace:
    """Time the encoder on two views, the CRF on a small photo and the DeepLab on a crop."""
    token = seconds_per_token(encoder, p.clip.image_size, encoder.patch)
    noise = np.random.default_rng(0)
    photo = np.clip(np.linspace(60, 200, CROP[1])[:, None] + noise.normal(0, 6, (*CROP, 3)), 0, 255).astype(np.uint8)
    probabilities = noise.dirichlet([1, 1, 1], CROP).transpose(2, 0, 1)
    kernel = mask_kernel(p.crf)
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if processes(kernel) > 1 else threads)  # of a process, where there are several
    sharpened(photo, probabilities, kernel)  # the first time is longer where it is made on a GPU
    start = time.perf_counter()
    sharpened(photo, probabilities, kernel)
    crf = time.perf_counter() - start
    torch.set_num_threads(threads)
    deeplab = build_deeplab(
        network=p.deeplab.network,
        encoder=p.deeplab.encoder,
        encoder_weights="none",
        num_classes=num_classes,
        output_stride=p.deeplab.output_stride,
    )
    deeplab.to(device()).eval()
    crops = torch.zeros(CROPS, 3, p.deeplab.crop_size, p.deeplab.crop_size, device=device())
    with torch.inference_mode():
        deeplab(crops)
        wait()
        start = time.perf_counter()
        deeplab(crops)
        wait()
    pixel = (time.perf_counter() - start) / (CROPS * p.deeplab.crop_size**2)
    return of.Pace(token=token, crf_pixel=crf / (CROP[0] * CROP[1]), deeplab_pixel=pixel)
