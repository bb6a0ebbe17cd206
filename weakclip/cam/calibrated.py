"""Maps from calibrated patches and texts, without training: patch-text similarity less what is common to all texts.

After ExCEL (Yang et al. 2025; zwyang6/ExCEL) and CLIP Surgery (Li et al. 2023): a feature that speaks for every text says
nothing, and is subtracted before the channels are summed.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def patch_text_similarity(embeddings: Tensor, texts: Tensor, *, over_tokens: bool = False) -> Tensor:
    """Similarity of every token to every text: (B, 1 + n, E) and unit texts (T, E) -> (B, 1 + n, T), with either sign.

    Texts weigh by how much the class token is for them; the mean over all texts, background words included, is the common part.
    ``over_tokens``: features are divided by their norm over the tokens, one for each channel, as released; the repaired path
    divides every token by its own norm.
    """
    features = functional.normalize(embeddings, dim=1 if over_tokens else 2)
    shares = (2 * features[:, :1] @ texts.T).softmax(dim=-1)  # (B, 1, T)
    weights = shares / shares.mean(dim=-1, keepdim=True)
    # Channels are summed at once: sum over e of f_e t_e w - mean over texts of f_e t_e w.
    weighted = features @ texts.T * weights
    common = features @ (weights.mT * texts).mean(dim=1)[:, :, None]
    return weighted - common


def stretch_over_tokens(similarity: Tensor) -> Tensor:
    """Each text's similarities (B, N, T) from the lowest to the highest of the N tokens: 0..1."""
    lifted = similarity - similarity.amin(dim=1, keepdim=True)
    return lifted / lifted.amax(dim=1, keepdim=True)
