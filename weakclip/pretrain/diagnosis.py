"""What the card of the mini CLIP says of it: zero-shot tags, and how well its tokens know their place.

The true masks are looked at here, after the training, for the card alone; nothing is chosen by them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from weakclip.cam.classifier import mean_average_precision
from weakclip.clip.image_encoder import ImageEncoder, VisualProjection
from weakclip.clip.model import Clip
from weakclip.clip.prompts import photo_of
from weakclip.clip.text_encoder import encode_texts
from weakclip.datasets.mini import BACKGROUND_WORDS, CLASS_NAMES, MiniWorld, Scene, clear_world
from weakclip.evaluation import confusion_matrix, mean_iou, percent

DEVELOPMENT_WORLD = 77
IMAGES = 300


@torch.inference_mode()
def diagnose(clip: Clip, scenes: Sequence[Scene]) -> dict[str, float]:
    """``tag_map``: mean average precision of the class token's zero-shot tags, percent. ``token_miou``: mIoU of the most
    similar word of every token, among the image's tags and the background words, against the true masks, percent."""
    encoder, projection = ImageEncoder(clip, [clip.depth - 1]), VisualProjection(clip)
    texts = encode_texts(clip, [photo_of(word) for word in CLASS_NAMES + BACKGROUND_WORDS])
    foreground = len(CLASS_NAMES)
    scores, tags = [], []
    counts = np.zeros((1 + foreground, 2 + foreground), np.int64)
    for scene in scenes:
        image = torch.from_numpy(scene.image).permute(2, 0, 1)[None]
        embeddings = functional.normalize(projection(encoder(image)[0])[0], dim=-1)
        similarity = embeddings @ texts.T  # (1 + h w, words)
        present = [name in scene.tags for name in CLASS_NAMES]
        scores.append(similarity[0, :foreground])
        tags.append(torch.tensor(present))
        allowed = torch.tensor([*present, *[True] * len(BACKGROUND_WORDS)])
        height, width = (side // clip.patch for side in scene.mask.shape)
        maps = similarity[1:].masked_fill(~allowed, -1).T.reshape(1, len(texts), height, width)
        words = functional.interpolate(maps, size=scene.mask.shape, mode="bilinear", align_corners=False)[0].argmax(dim=0)
        prediction = torch.where(words < foreground, words + 1, 0).numpy().astype(np.uint8)
        counts += confusion_matrix(prediction, scene.mask, 1 + foreground)
    return {
        "tag_map": percent(mean_average_precision(torch.stack(scores), torch.stack(tags))),
        "token_miou": percent(mean_iou(counts)),
    }


def diagnose_mini_clip(clip: Clip, context_probability: float) -> dict[str, object]:
    """Figures on the development world as the pipeline draws it, and as clear and with contexts as loose as in pretraining."""
    worlds = {"pipeline": MiniWorld(seed=DEVELOPMENT_WORLD)}
    worlds["as_pretrained"] = clear_world(DEVELOPMENT_WORLD, context_probability)
    figures: dict[str, object] = {"world": DEVELOPMENT_WORLD, "n": IMAGES}
    for name, world in worlds.items():
        figures[name] = diagnose(clip, [world.scene("card", index) for index in range(IMAGES)])
    return figures
