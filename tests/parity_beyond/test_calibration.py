"""ExCEL: enriched texts, calibrated patches, their maps, and how these are spread."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor
from torch.nn import functional

from tests.parity_beyond.cases import Case, Stored, cases, manifest, marked, opened, weights
from tests.parity_beyond.networks import load_network, phrases, released_encoder
from weakclip.cam.calibrated import patch_text_similarity, stretch_over_tokens
from weakclip.cam.descriptions import enrich
from weakclip.clip.attention import attention_weights, queries_keys_values
from weakclip.clip.calibration import CalibratedEncoder, learned_affinity
from weakclip.clip.prompts import fill_template
from weakclip.clip.text_encoder import encode_texts

COUNT = 5
"""Last blocks that are calibrated."""
TOLERANCE = 2e-5
"""Of max."""
EVERY = 7
"""Of the stored channels of block features."""


def class_texts(case: Case) -> tuple[Tensor, int]:
    """Unit embeddings of classes and background words, and how many are classes."""
    described = manifest(case)
    sentences = [fill_template(described["template"], phrase) for phrase in phrases(described)]
    return encode_texts(load_network(case), sentences), len(described["class_prompts"])


def enriched_texts(case: Case, bank: np.ndarray) -> Tensor:
    """Classes enriched by a bank (E, n), and background words as they are."""
    texts, num_foreground = class_texts(case)
    enriched = enrich(texts[:num_foreground], torch.from_numpy(bank).T, released_drop(bank.shape[1]))
    return torch.cat([enriched, texts[num_foreground:]])


def released_drop(size: int) -> int:
    """How many entries of a bank have no weight: a tenth in floating point, so 1 of 20 and 2 of 24."""
    return int((1 - 0.9) * size)


def sharp_texts(case: Case) -> Tensor:
    """Those that the maps are made with."""
    (of_texts,) = cases("enriched_text")
    return enriched_texts(case, Stored(of_texts).array("attr_bank_sharp"))


def levels(shares: tuple[float, ...]) -> Tensor:
    """Of a normalisation: (3, 1, 1) float64 on 0..255."""
    return torch.tensor([255 * share for share in shares], dtype=torch.float64).view(3, 1, 1)


def network_input(case: Case) -> Tensor:
    """The photos in ImageNet's normalisation, then resized to a square: (B, 3, s, s)."""
    about = manifest(case, "excel")
    mean, std = levels(IMAGENET_DEFAULT_MEAN), levels(IMAGENET_DEFAULT_STD)
    images = []
    for photo in about["photos"]:
        pixels = torch.from_numpy(weights().photo_like(photo["tag"], photo["shape"], about["seed"])).permute(2, 0, 1)
        side = (about["network_side"],) * 2
        images.append(
            functional.interpolate(((pixels - mean) / std).float()[None], size=side, mode="bilinear", align_corners=False)
        )
    return torch.cat(images)


def decoder_features(case: Case) -> Tensor:
    about = manifest(case, "excel")
    return torch.from_numpy(weights().image(about["decoder_feature_tag"], about["decoder_feature_shape"], about["seed"]))


def released_maps(embeddings: Tensor, texts: Tensor) -> Tensor:
    """(B, 1 + n, T): features normalised over tokens, minimum and maximum over the class token as well."""
    return stretch_over_tokens(patch_text_similarity(embeddings, texts, over_tokens=True))


def released_attention(case: Case, entering: list[Tensor]) -> Tensor:
    """(blocks, B, N, N): mean over the heads, but their sum in the calibrated blocks, as released."""
    clip, kept = load_network(case), []
    with torch.no_grad():
        for number, (block, tokens) in enumerate(zip(clip.network.visual.transformer.resblocks, entering, strict=False)):
            q, k, _ = queries_keys_values(block, tokens)
            weights_of_heads = attention_weights(q, k)
            calibrated = number >= clip.depth - COUNT
            kept.append(weights_of_heads.sum(dim=1) if calibrated else weights_of_heads.mean(dim=1))
    return torch.stack(kept)


def released_block_features(case: Case, entering: list[Tensor], calibrated: Tensor) -> Tensor:
    """(blocks, B, N, C) as released, where additions in place have changed what was kept: before the calibrated blocks stands
    the calibrated path, and the others have the attention of the block after them added."""
    blocks = load_network(case).network.visual.transformer.resblocks
    features = entering[1:]
    first = len(blocks) - COUNT - 1
    features[first] = calibrated
    with torch.no_grad():
        for number in range(first + 1, len(blocks) - 1):
            features[number] = features[number] + blocks[number + 1].attention(q_x=blocks[number + 1].ln_1(features[number]))
    return torch.stack(features)


@pytest.mark.parametrize("case", marked(cases("enriched_text")))
def test_enriched_texts(case: Case) -> None:
    with opened(case) as stored:
        stored.check_of_max("text_features", class_texts(case)[0], 1e-5)
        for name in ("", "_sharp"):
            bank = stored.array(f"attr_bank{name}")
            stored.check_of_max(f"text_enriched{name}", enriched_texts(case, bank), 1e-5)
        stored.check("dropped_attributes", released_drop(stored.shape("attr_bank")[1]))


@pytest.mark.parametrize("case", marked(cases("calibration")))
def test_calibrated_maps(case: Case) -> None:
    clip, encoder = load_network(case), released_encoder(case, half_positions=False)
    texts = sharp_texts(case)
    num_foreground = class_texts(case)[1]
    images = network_input(case)
    entering = encoder.entering_all(images)
    after = clip.depth - 1 - COUNT
    calibrated = CalibratedEncoder(clip, COUNT, after)
    tokens = entering[after + 1]
    with opened(case) as stored:
        stored.check_of_max("input", images, TOLERANCE)
        size = tuple(side // clip.patch for side in images.shape[2:])
        stored.check_of_max("positional_embedding", encoder.positions(size), TOLERANCE)
        embeddings = calibrated(tokens)
        stored.check_of_max("surgery_output", embeddings, TOLERANCE)
        stored.check_of_max("features_normalised_over_tokens", functional.normalize(embeddings, dim=1), TOLERANCE)
        similarity = released_maps(embeddings, texts)
        stored.check_of_max("similarity_maps_all", similarity, TOLERANCE)
        stored.check_of_max("maps", similarity[:, 1:, :num_foreground], TOLERANCE)
        attention = released_attention(case, entering)
        stored.check_of_max("attention_row_sums", attention.sum(dim=-1).mean(dim=(1, 2)), TOLERANCE)
        for name, number in (("minus6", -6), ("minus5", -5), ("last", -1)):
            stored.check_of_max(f"attention_block_{name}", attention[number], TOLERANCE)
        features = released_block_features(case, entering, calibrated.paths(tokens)[1])
        stored.check_of_max("block_features_as_released", features[..., ::EVERY], TOLERANCE)
        learned, logits = learned_affinity(decoder_features(case))
        stored.check_of_max("decoder_features", decoder_features(case), TOLERANCE)
        stored.check_of_max("affinity_prediction", logits.sigmoid(), TOLERANCE)
        embeddings = calibrated(tokens, learned)
        stored.check_of_max("surgery_output_lvc", embeddings, TOLERANCE)
        stored.check_of_max("maps_lvc", released_maps(embeddings, texts)[:, 1:, :num_foreground], TOLERANCE)
