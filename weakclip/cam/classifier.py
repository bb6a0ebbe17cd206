"""A multi-label classifier whose class scores are maps: every token chooses between class words and background words.

A plain linear head lights up whatever goes along with a class, water for boats and rails for trains. Here those contexts
are words of their own, in CLIP's text space, and compete with the classes for every token (after CLIP-ES, Lin et al. 2023).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from weakclip.ranks import world


class CamClassifier(nn.Module):
    """Softmax over words, per token, on visual embeddings that are turned slightly towards the data set.

    ``texts``: unit text embeddings (T, E), the ``num_foreground`` classes first, then background words; they stay fixed.
    The learnable part is a residual linear map of the visual embeddings that starts at zero and is pulled back to it by
    weight decay, so that the classifier starts as CLIP's zero-shot answer.
    """

    texts: Tensor

    def __init__(self, texts: Tensor, num_foreground: int, temperature: float) -> None:
        super().__init__()
        self.register_buffer("texts", texts.clone())
        self.num_foreground = num_foreground
        self.temperature = temperature
        self.adapter = nn.Linear(texts.shape[1], texts.shape[1], bias=False)
        nn.init.zeros_(self.adapter.weight)

    def forward(self, visual: Tensor) -> Tensor:
        """Visual embeddings (..., E) -> logits over all words (..., T)."""
        visual = functional.normalize(visual, dim=-1)
        adapted = functional.normalize(visual + self.adapter(visual), dim=-1)
        return adapted @ self.texts.T / self.temperature


def tag_scores(logits: Tensor, num_foreground: int, share: float) -> Tensor:
    """Score of every class for the whole image, 0..1: its mean share in the softmax over its best tokens.

    ``logits`` (B, N, T) -> (B, num_foreground). ``share``: of the tokens that count as best.
    """
    probabilities = logits.softmax(dim=-1)[..., :num_foreground]
    best = max(1, round(share * logits.shape[1]))
    return probabilities.topk(best, dim=1).values.mean(dim=1)


def tag_loss(scores: Tensor, tags: Tensor) -> Tensor:
    """Binary cross entropy of image scores (B, F) in 0..1 and tags (B, F), as much weight on present as on absent tags.

    Ranks give those of their parts of the batch, and divide by the mean of their counts.
    """
    scores = scores.clamp(1e-4, 1 - 1e-4)
    present, absent = -scores.log()[tags], -(1 - scores).log()[~tags]
    counts = world().average(torch.tensor([present.numel(), absent.numel()])).tolist()
    parts = [part.sum() / count for part, count in zip((present, absent), counts, strict=True) if count]
    return torch.stack(parts).mean()


def mean_average_precision(scores: Tensor, tags: Tensor) -> float:
    """Mean over the classes that occur of the average precision of (n, F) scores for (n, F) tags, 0..1."""
    precisions = []
    for class_scores, class_tags in zip(scores.T, tags.T, strict=True):
        if not class_tags.any():
            continue
        hits = class_tags[class_scores.argsort(descending=True, stable=True)].double()
        precision = hits.cumsum(0) / torch.arange(1, len(hits) + 1)
        precisions.append(float((precision * hits).sum() / hits.sum()))
    return sum(precisions) / len(precisions) if precisions else 0.0
