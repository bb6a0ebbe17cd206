"""Refinement of the decoder's own prediction by the affinity that it predicts, on the attention of the frozen encoder.

The refinement module of WeCLIP (Zhang et al., CVPR 2024) refines CAMs so while it trains. Here it is the prediction itself,
of each window when masks are made: what the network says of a token is passed on to the tokens that attend to it and look alike
to the decoder. There are no boxes around regions, as there are for CAMs: background is a class here, and is anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from weakclip.cam.affinity import affinity
from weakclip.predicted_affinity import at_tokens, cosine_affinity, guided_attention


@dataclass(frozen=True)
class AffinityRefinement:
    """``blocks``: the last ones of the encoder, of which those that agree with the prediction are used. ``share``: of the
    refined probabilities in the result, 0..1; the rest is what they were."""

    blocks: int
    share: float


def affinity_refinement(blocks: int, share: float) -> AffinityRefinement | None:
    """None for no blocks: no refinement."""
    return AffinityRefinement(blocks, share) if blocks else None


def refine_logits(logits: Tensor, features: Tensor, attention: Tensor, size: tuple[int, int], share: float) -> Tensor:
    """Logits (B, K, s h, s w) as the probabilities at the tokens of a grid (h, w) = ``size`` are after refinement.

    ``features``: of the decode head, (B, D, s h, s w). ``attention``: among the patches, of each block (L, B, h w, h w). A
    pixel's odds change by the ratio of the refined and the former probabilities of its token, so details within it stay.
    """
    coarse = at_tokens(logits.softmax(dim=1), *size)
    affinities = affinity(guided_attention(attention, cosine_affinity(at_tokens(features, *size))))
    spread = (coarse.flatten(2) @ affinities.transpose(1, 2)).view_as(coarse)
    refined = torch.lerp(coarse, spread / spread.sum(dim=1, keepdim=True), share)
    gain = refined.clamp_min(1e-4).log() - coarse.clamp_min(1e-4).log()
    return logits + functional.interpolate(gain, size=logits.shape[2:], mode="nearest")
