"""Class probabilities of a retrained DeepLab for photos of any size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from weakclip.deeplab.model import build_deeplab
from weakclip.deeplab.network import DeepLab
from weakclip.device import device, from_host, to_host
from weakclip.errors import WeakClipError
from weakclip.weights import load_into, load_weights

WEIGHTS: Final = "deeplab"
# The network never sees more pixels than this at once, so its memory is bounded; larger photos are shrunk for it.
LARGEST_VIEW: Final = 4_000_000


def load_deeplab(folder: Path) -> DeepLab:
    """The network that `retrain_deeplab` saved, ready for inference, its card as ``.card``.

    Raises:
        WeakClipError: the files are missing or damaged, or do not belong together.
    """
    state, card = load_weights(folder, WEIGHTS)
    source = folder / f"{WEIGHTS}.safetensors"
    try:
        model = build_deeplab(
            network=str(card["network"]),
            encoder=str(card["encoder"]),
            encoder_weights="none",
            num_classes=int(str(card["num_classes"])),
            output_stride=int(str(card["output_stride"])),
        )
    except (KeyError, ValueError) as error:
        problem = f"{source} is not a retrained DeepLab: {error}"
        raise WeakClipError(problem, "`dvc repro retrain_deeplab` writes one") from error
    load_into(model, state, str(source))
    model.card = card
    return model.to(device()).eval()


def predict_probabilities(
    model: DeepLab, photo: NDArray[np.uint8], *, scales: Sequence[float], flip: bool
) -> NDArray[np.float32]:
    """Class probabilities of a photo, averaged over scales and mirrored views.

    ``photo``: (H, W, 3) uint8. ``scales``: factors of the photo's size. Returns (K, H, W) float32 that add up to 1.
    """
    probabilities: NDArray[np.float32] = predict_batch(model, photo[None], scales=scales, flip=flip)[0]
    return probabilities


def predict_batch(model: DeepLab, photos: NDArray[np.uint8], *, scales: Sequence[float], flip: bool) -> NDArray[np.float32]:
    """As `predict_probabilities` for photos of one size: (B, H, W, 3) uint8 -> (B, K, H, W) float32."""
    fused = fuse_views(model, photos, scales=scales, flip=flip)
    return np.asarray(to_host(fused.softmax(dim=1) if model.views.fuse_logits else fused).numpy(), np.float32)


@torch.inference_mode()
def fuse_views(model: DeepLab, photos: NDArray[np.uint8], *, scales: Sequence[float], flip: bool) -> Tensor:
    """The mean over scales and mirrored views of what the network fuses, logits or probabilities: (B, K, H, W).

    ``photos``: (B, H, W, 3) uint8. Memory grows with B and with the size of the result; the network itself sees one scale at a
    time, of 4 megapixels a photo at the most. A model in training mode is refused, for it would average over the batch.
    """
    if model.training:
        raise ValueError("expected a model in evaluation mode, got one in training mode")
    if photos.ndim != 4 or photos.shape[-1] != 3 or photos.dtype != np.uint8:
        raise ValueError(f"expected photos of (B, H, W, 3) uint8, got {photos.shape} {photos.dtype}")
    if not scales:
        raise ValueError("expected at least one scale, got none")
    total = torch.zeros((), device=model.mean.device)
    for scale in scales:
        view = _view(model, photos, scale)
        mean = _scores(model, view)
        if flip:
            mean = (mean + _scores(model, view.flip(-1)).flip(-1)) / 2
        total = total + model.enlarge(mean, *photos.shape[1:3])
    return total / len(scales)


def _view(model: DeepLab, photos: NDArray[np.uint8], scale: float) -> Tensor:
    """(B, 3, h, w) pixel values at a scale, on the model's device."""
    height, width = photos.shape[1:3]
    scale = min(scale, math.sqrt(LARGEST_VIEW / (height * width)))
    size = max(1, round(height * scale)), max(1, round(width * scale))
    views = photos
    if size != (height, width):
        views = np.stack([model.views.resize(photo, *size, scale) for photo in photos])
    return from_host(torch.from_numpy(np.array(views)), model.mean.device).permute(0, 3, 1, 2).float()


def _scores(model: DeepLab, view: Tensor) -> Tensor:
    """(B, K, h, w) of a view of (B, 3, h, w), padded with the mean colour to what the network takes."""
    height, width = view.shape[-2:]
    below, right = -height % model.multiple, -width % model.multiple
    padded = functional.pad(view - model.mean, (0, right, 0, below)) + model.mean
    logits = model.enlarge(model(padded), height + below, width + right)[..., :height, :width]
    return logits if model.views.fuse_logits else logits.softmax(dim=1)
