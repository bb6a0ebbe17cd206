"""Where maps come from: each source scores the present classes in a stored view (`weakclip.cam.inference.Source`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from weakclip.cam.calibrated import patch_text_similarity, stretch_over_tokens
from weakclip.cam.classifier import CamClassifier
from weakclip.cam.fitting import VisualEmbeddings
from weakclip.cam.gradcam import softmax_gradcam
from weakclip.cam.stored import StoredTokens
from weakclip.clip.attention import LastBlocks
from weakclip.clip.calibration import CalibratedEncoder
from weakclip.clip.model import Clip


def competitors(tags: Sequence[int], num_foreground: int, texts: Tensor) -> Tensor:
    """Rows of the texts that compete in an image: its tags (1-based), then all background words after the ``num_foreground``
    classes. Absent classes do not: the tags rule them out."""
    return torch.tensor([*(tag - 1 for tag in tags), *range(num_foreground, len(texts))])


@dataclass(frozen=True)
class ClassifierMaps:
    """Every token's share of each present class in the softmax over the present classes and the background words."""

    classifier: CamClassifier
    embeddings: VisualEmbeddings

    def __call__(self, row: int, tags: Sequence[int]) -> Tensor:
        chosen = competitors(tags, self.classifier.num_foreground, self.classifier.texts)
        logits: Tensor = self.classifier(self.embeddings.tokens(row))[:, chosen]
        return logits.softmax(dim=-1)[:, : len(tags)].T


@dataclass(frozen=True)
class GradCamMaps:
    """Softmax-GradCAM of the last block, see `weakclip.cam.gradcam`; each map stretched to 0..1.

    ``texts``: unit text embeddings, the ``num_foreground`` classes first. ``temperature``: of the softmax.
    """

    clip: Clip
    stored: StoredTokens
    blocks: LastBlocks
    texts: Tensor
    num_foreground: int
    temperature: float

    def __call__(self, row: int, tags: Sequence[int]) -> Tensor:
        texts = self.texts[competitors(tags, self.num_foreground, self.texts)]
        entering = self.blocks.entering(self.stored.read(row)[None])[-1][0]
        maps = softmax_gradcam(self.clip, entering, texts, len(tags), 1 / self.temperature).maps.clamp_min(0)
        return maps / maps.amax(dim=1, keepdim=True).clamp_min(1e-7)


@dataclass(frozen=True)
class CalibratedMaps:
    """Similarity of calibrated patches to the texts, see `weakclip.cam.calibrated`; each map stretched to 0..1."""

    stored: StoredTokens
    encoder: CalibratedEncoder
    texts: Tensor
    num_foreground: int

    def __call__(self, row: int, tags: Sequence[int]) -> Tensor:
        texts = self.texts[competitors(tags, self.num_foreground, self.texts)]
        similarity = patch_text_similarity(self.encoder(self.stored.read(row)[None]), texts)
        return stretch_over_tokens(similarity[:, 1:])[0, :, : len(tags)].T
