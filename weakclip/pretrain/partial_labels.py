"""Learning from a caption that names everything in its picture but says nowhere what is where."""

from __future__ import annotations

from torch import Tensor


def token_losses(logits: Tensor, named: Tensor, *, presence_share: float) -> tuple[Tensor, Tensor]:
    """Token and presence loss of pictures with captions.

    ``logits``: (P, N, words), N tokens or cells of each picture. ``named``: (P, words) bool.

    Token loss: every token must be one of the named words (learning from partial labels: minus the log of the named words'
    share in the softmax over all words). Presence loss: every named word must have some tokens (minus the log of its mean
    share over its best ``presence_share`` of the tokens).
    """
    share = logits.log_softmax(dim=-1)
    allowed = share.masked_fill(~named[:, None, :], float("-inf"))
    token = -allowed.logsumexp(dim=-1).mean()
    best = max(1, int(presence_share * logits.shape[1]))
    top = share.exp().topk(best, dim=1).values.mean(dim=1)  # (P, words)
    presence = -(top.clamp_min(1e-4).log())[named].mean()
    return token, presence
