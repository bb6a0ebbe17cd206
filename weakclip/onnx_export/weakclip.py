"""A trained WeakCLIP as an ONNX file: windows of one size in, logits out; the encoder is inside and the texts are constants."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from weakclip.network.trained import TrainedWeakClip
from weakclip.onnx_export.file import write_onnx
from weakclip.second_encoder import EncoderPair

OUTPUT: Final = "logits"


class WindowLogits(nn.Module):
    """Encoder and decoder between the pixels of a window and its logits: what `gather_logits` adds up.

    The text embeddings and the positions of the grid are computed here, once: neither depends on a photo.
    """

    texts: Tensor

    def __init__(self, trained: TrainedWeakClip) -> None:
        super().__init__()
        self.encoder, self.network = trained.encoder.cpu(), trained.model.cpu()
        self.side = trained.image_size // trained.encoder.patch
        with torch.no_grad():
            self.register_buffer("texts", self.network.text_encoder())
            clip = self.encoder.clip if isinstance(self.encoder, EncoderPair) else self.encoder
            positions = clip.positions((self.side, self.side)).clone()
        # Resizing them with antialias is nothing that runtimes agree on.
        clip.positions = lambda size: positions  # type: ignore[method-assign]

    def forward(self, photos: Tensor) -> Tensor:
        """(B, 3, S, S) float32 RGB, 0..255, S the side of a window, to (B, K, S, S)."""
        logits: Tensor = self.network(self.encoder(photos), self.side, self.side, self.texts)[0]
        return functional.interpolate(logits, size=photos.shape[2:], mode="bilinear", align_corners=False)


def export_weakclip(trained: TrainedWeakClip, out: Path) -> None:
    """Write the file; only the batch is free. The network serves for nothing else afterwards.

    Its metadata hold the names of the classes (``classes``, JSON) and the hash of the trained weights (``weights_sha256``).

    Raises:
        WeakClipError: the packages that write ONNX are not installed.
    """
    example = torch.zeros(2, 3, trained.image_size, trained.image_size)
    about = {"classes": list(trained.classes.with_background), "weights_sha256": trained.weights_sha256}
    write_onnx(WindowLogits(trained), example, out, free={0: "batch"}, output=OUTPUT, about=about)
