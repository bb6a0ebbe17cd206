"""CLIP-ES: softmax-GradCAM of the last block, and the affinity of attention that spreads its maps."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from tests.parity_beyond.cases import Case, Stored, cases, manifest, marked, opened, seed, weights
from tests.parity_beyond.networks import load_network, phrases, released_encoder
from weakclip.cam.affinity import affinity, balance, box_mask, spread, stretch
from weakclip.cam.gradcam import GradCam, softmax_gradcam
from weakclip.clip.attention import block_attention, patches_only
from weakclip.clip.prompts import fill_template
from weakclip.clip.text_encoder import encode_texts

ACTIVATIONS = 3e-4
"""Of max, for all that passes through the network."""
LAST = 8
"""Blocks whose attention is averaged."""


def entry(case: Case) -> dict[str, object]:
    """What the manifest says of this photo."""
    (found,) = (entry for entry in manifest(case)["cases"] if case.file == f"clipes_{entry['tag']}.npz")
    return found


def network_input(case: Case) -> Tensor:
    """The photo stretched to multiples of the patch, normalised: (1, 3, H, W)."""
    clip, about = load_network(case), entry(case)
    photo = Image.fromarray(weights().photo_like(about["tag"], about["photo"], seed(case)))
    height, width = (-(-side // clip.patch) * clip.patch for side in about["photo"][:2])
    assert [height, width] == about["network_input"]
    pixels = torch.from_numpy(np.array(photo.resize((width, height), Image.Resampling.BICUBIC))).permute(2, 0, 1)[None]
    mean, std = (
        torch.tensor(values).view(3, 1, 1)
        for values in ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
    )
    return (pixels.float() / 255 - mean) / std


def competing_texts(case: Case, tags: list[int]) -> Tensor:
    """Of the tags, from 0, then of all background words."""
    described = manifest(case)
    texts = encode_texts(load_network(case), [fill_template(described["template"], phrase) for phrase in phrases(described)])
    return texts[[*tags, *range(len(described["class_prompts"]), len(texts))]]


def entering(case: Case) -> list[Tensor]:
    """Tokens that enter each block, and that leave the last one: (1, 1 + n, C)."""
    encoder = released_encoder(case, half_positions=True)
    return encoder.entering_all(network_input(case))


def made_maps(case: Case) -> tuple[GradCam, Tensor]:
    """GradCAM of the case, and its maps (c, h, w), stretched twice as published."""
    described, about = manifest(case), entry(case)
    tokens = entering(case)[-2][0]
    scale = float(np.exp(described["logit_scale"]))
    found = softmax_gradcam(load_network(case), tokens, competing_texts(case, about["tags"]), len(about["tags"]), scale)
    height, width = (side // load_network(case).patch for side in about["network_input"])
    return found, stretch(stretch(found.maps.clamp_min(0).unflatten(1, (height, width))))


def at_photo_size(maps: Tensor, case: Case) -> Tensor:
    return functional.interpolate(maps[None], size=tuple(entry(case)["photo"][:2]), mode="bilinear", align_corners=False)[0]


@pytest.mark.parametrize("case", marked(cases("gradcam")))
def test_gradcam(case: Case) -> None:
    about, encoder = entry(case), released_encoder(case, half_positions=True)
    names = manifest(case)["class_names"]
    assert about["tags"] == list(dict.fromkeys(names.index(name) for name in about["objects_in_order"]))
    size = tuple(side // load_network(case).patch for side in about["network_input"])
    with opened(case) as stored:
        stored.check("tags", about["tags"])
        stored.check("input", network_input(case).numpy(), atol=1e-5)
        first = stored.array("input_first_values")
        np.testing.assert_allclose(network_input(case).flatten()[: len(first)].numpy(), first, atol=1e-5)
        stored.check_of_max("positional_embedding", encoder.positions(size).numpy(), 6e-4)
        stored.check_of_max("last_block_input", entering(case)[-2][0].numpy(), ACTIVATIONS)
        found, maps = made_maps(case)
        stored.check_of_max("image_feature_unnormalised", found.embedding[None].numpy(), ACTIVATIONS)
        stored.check_of_max("logits", found.logits.numpy(), ACTIVATIONS)
        stored.check_of_max("softmax", found.shares.numpy(), ACTIVATIONS)
        stored.check_of_max("activations", found.activations.unflatten(1, size).numpy(), ACTIVATIONS)
        stored.check_of_max("gradients", found.gradients.unflatten(2, size).numpy(), ACTIVATIONS)
        stored.check_of_max("channel_weights", found.weights.numpy(), ACTIVATIONS)
        stored.check_of_max("cam_raw", found.maps.unflatten(1, size).numpy(), ACTIVATIONS)
        stored.check("cam", maps.numpy(), atol=5e-4)
        stored.check("cam_at_photo_size", at_photo_size(maps, case).numpy(), atol=5e-4)


@pytest.mark.parametrize("case", marked(cases("gradcam_affinity")))
def test_maps_are_spread(case: Case) -> None:
    blocks, tokens = load_network(case).network.visual.transformer.resblocks, entering(case)
    with torch.no_grad():
        attention = torch.cat(
            [patches_only(block_attention(block, before)) for block, before in zip(blocks, tokens, strict=False)]
        )
    threshold = entry(case)["box_threshold"]
    _, maps = made_maps(case)
    with opened(case) as stored:
        stored.check_of_max("attention_last8_sums", attention[-LAST:].sum(dim=(1, 2)).numpy(), ACTIVATIONS)
        mean = attention[-LAST:].mean(dim=0)
        stored.check_of_max("attention_mean", mean.numpy(), ACTIVATIONS)
        stored.check_of_max("sinkhorn", balance(mean).numpy(), ACTIVATIONS)
        stored.check_of_max("affinity", affinity(mean).numpy(), ACTIVATIONS)
        check_boxes(stored, "boxes_{}", maps.numpy(), threshold)
        stored.check("box_mask", [box_mask(plane, threshold, limit_ends=True) for plane in maps.numpy()])
        refined = spread(maps, affinity(mean), threshold, limit_ends=True)
        stored.check_of_max("refined", refined.numpy(), 1e-4)
        stored.check("refined_at_photo_size", at_photo_size(stretch(stretch(refined)), case).numpy(), atol=1e-2)


def check_boxes(stored: Stored, pattern: str, maps: np.ndarray, threshold: float) -> None:
    """The stored boxes of each map, of its regions and of holes in them, cover what `box_mask` covers."""
    for number, plane in enumerate(maps):
        covered = np.zeros(plane.shape, bool)
        for left, top, right, bottom in stored.array(pattern.format(number)).tolist():
            covered[top:bottom, left:right] = True
        np.testing.assert_array_equal(box_mask(plane, threshold, limit_ends=True), covered)
