"""Softmax-GradCAM: which patches speak for a class, against the other tags and the background's words.

Classes and background words compete in a softmax over the image's own short list, and the gradient of a class's share weighs
the channels of the last block's normed input, so that a patch which speaks for two classes, or for water as much as for
boats, counts for neither (CLIP-ES, Lin et al. 2023, section 3.2; linyq2117/CLIP-ES). Nothing is trained.

The gradient stays within the last block, so the tokens that enter it are all that is needed: an image costs one pass forward
through it, and each class one back.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from weakclip.clip.model import Clip


@dataclass(frozen=True)
class GradCam:
    """``activations``: (C, n) normed input of the last block, without class token. ``gradients``: (c, C, n) of each class's
    share with respect to it. ``embedding``: (E,) of the image, not normalised. ``logits``: (T,). ``shares``: (T,), their
    softmax."""

    activations: Tensor
    gradients: Tensor
    embedding: Tensor
    logits: Tensor
    shares: Tensor

    @property
    def weights(self) -> Tensor:
        """(c, C): of the channels."""
        return self.gradients.mean(dim=-1)

    @property
    def maps(self) -> Tensor:
        """(c, n), with either sign."""
        return self.weights @ self.activations


def softmax_gradcam(clip: Clip, tokens: Tensor, texts: Tensor, count: int, scale: float) -> GradCam:
    """Of the first ``count`` of the ``texts`` (T, E), which are unit vectors and compete with each other, for the tokens
    (1 + n, C) that enter the last block. ``scale``: of the cosines in the softmax, CLIP's own being exp(logit_scale).

    The image's embedding is the mean of its projected patches: the class token would speak for the image and not for them. What
    passes by the block's attention has no part in the gradient.
    """
    visual = clip.network.visual
    block = visual.transformer.resblocks[-1]
    with torch.enable_grad():
        normed = block.ln_1(tokens[None].detach()).detach().requires_grad_()
        mixed = tokens[None] + block.ls_1(block.attention(q_x=normed))
        mixed = mixed + block.ls_2(block.mlp(block.ln_2(mixed)))
        embedding = (visual.ln_post(mixed)[:, 1:].mean(dim=1) @ visual.proj)[0]
        logits = scale * functional.normalize(embedding, dim=0) @ texts.T
        shares = logits.softmax(dim=0)
        gradients = [torch.autograd.grad(shares[index], normed, retain_graph=True)[0][0] for index in range(count)]
    empty = normed.new_zeros(0, *normed.shape[1:])
    stacked = torch.stack(gradients) if gradients else empty
    return GradCam(
        activations=normed[0, 1:].detach().T,
        gradients=stacked[:, 1:].transpose(1, 2),
        embedding=embedding.detach(),
        logits=logits.detach(),
        shares=shares.detach(),
    )
