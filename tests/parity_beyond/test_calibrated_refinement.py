"""ExCEL's spread of its maps: plain, guided by a predicted affinity, and as in its validation; then PAR and labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor
from torch.nn import functional

from tests.parity_beyond.cases import Case, cases, manifest, marked, opened
from tests.parity_beyond.networks import load_network, released_encoder
from tests.parity_beyond.test_calibration import (
    COUNT,
    class_texts,
    decoder_features,
    levels,
    network_input,
    released_attention,
    released_maps,
    sharp_texts,
)
from tests.parity_beyond.test_gradcam import check_boxes
from weakclip.cam.affinity import affinity, spread, stretch
from weakclip.clip.attention import patches_only
from weakclip.clip.calibration import CalibratedEncoder, learned_affinity
from weakclip.par import ParKernel, refine_by_pixels
from weakclip.predicted_affinity import agreeing_layers, cosine_affinity, guided_attention, layer_differences

LAST = 6
"""Blocks whose attention is averaged: one mean over heads and five sums."""
TOLERANCE = 2e-5
PAR = ParKernel(dilations=(1, 2, 4, 8, 12, 24), iterations=20)
EQUAL = 0.998
"""Share of pixels whose label agrees."""


def denormalised(images: Tensor) -> Tensor:
    """Photos, 0..1, from images in ImageNet's normalisation, by way of whole levels."""
    mean, std = levels(IMAGENET_DEFAULT_MEAN), levels(IMAGENET_DEFAULT_STD)
    return (images * std.float() + mean.float()).to(torch.uint8).float() / 255


def with_background(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps (c, h, w) stretched, at another size, after the background's: (1 + c, *size)."""
    full = functional.interpolate(stretch(maps)[None], size=size, mode="bilinear", align_corners=False)[0]
    return torch.cat([1 - full.amax(dim=0, keepdim=True), full])


@pytest.mark.parametrize("case", marked(cases("calibrated_refinement")))
def test_maps_are_spread(case: Case) -> None:
    clip, about, images = load_network(case), manifest(case, "excel"), network_input(case)
    entering = released_encoder(case, half_positions=False).entering_all(images)
    texts, num_foreground = sharp_texts(case), class_texts(case)[1]
    after = clip.depth - 1 - COUNT
    learned, _ = learned_affinity(decoder_features(case))
    grid = tuple(side // clip.patch for side in images.shape[2:])

    def maps_of(learned: Tensor | None) -> Tensor:
        """(B, classes, h, w)."""
        similarity = released_maps(CalibratedEncoder(clip, COUNT, after)(entering[after + 1], learned), texts)
        return similarity[:, 1:, :num_foreground].transpose(1, 2).unflatten(2, grid)

    free, guided = maps_of(None), maps_of(learned)
    layers = patches_only(released_attention(case, entering))[-LAST:]  # (layers, B, n, n)
    predicted = cosine_affinity(decoder_features(case), over_batch=True)
    square = tuple(images.shape[2:])
    with opened(case) as stored:
        # Cut to whole levels: the last bit decides.
        assert stored.agreement("denormalised", denormalised(images).numpy()) >= 0.999
        for number, photo in enumerate(about["photos"]):
            own, affinity_of_tokens = layers[:, number], predicted[number]
            stored.check_of_max(f"attention_mean_{number}", own.mean(dim=0), TOLERANCE)
            plain = affinity(own.mean(dim=0))
            stored.check_of_max(f"transition_{number}", plain, TOLERANCE)
            stored.check_of_max(f"guided_difference_{number}", layer_differences(own, affinity_of_tokens), TOLERANCE)
            stored.check(f"guided_selected_{number}", agreeing_layers(own, affinity_of_tokens).numpy())
            attention = guided_attention(own, affinity_of_tokens)
            stored.check_of_max(f"guided_attention_{number}", attention, TOLERANCE)
            photo_size = tuple(photo["shape"][:2])
            for name, maps, affinities, threshold, size, pixels in (
                ("free", free, plain, 0.79, square, denormalised(images)),
                ("guided", guided, affinity(attention), 0.79, square, denormalised(images)),
                ("val", free, affinity(attention), 0.75, photo_size, images),
            ):
                present = maps[number][photo["classes"]]
                refined = spread(present, affinities, threshold, limit_ends=True)
                stored.check_of_max(f"refined_{name}_{number}", refined, TOLERANCE)
                check_boxes(stored, f"boxes_{name}_{number}_{{}}", present.numpy(), threshold)
                full = with_background(refined, size)
                stored.check(f"maps_with_background_{name}_{number}", full, atol=2e-3)
                sharpened = refine_by_pixels(pixels[number, None], full[None], PAR)[0]
                stored.check(f"par_{name}_{number}", sharpened, atol=2e-3)
                labels = np.array([0, *(index + 1 for index in photo["classes"])])[sharpened.argmax(dim=0)]
                assert stored.agreement(f"label_{name}_{number}", labels) >= EQUAL
