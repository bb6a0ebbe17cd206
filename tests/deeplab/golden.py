"""Figures of the paper's DeepLab and of the released augmentations on small inputs of our own, for `test_golden.py`.

They were written by this code when it agreed with the released code on all cases of `tests/parity`. Run
`python -m tests.deeplab.golden` to write them anew, after those cases have passed.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.deeplab.slim_resnet38 import make_slim
from weakclip.crf import CrfKernel
from weakclip.deeplab.deeplabv1 import DeepLabV1
from weakclip.deeplab.postprocessing import sharpen_winners
from weakclip.deeplab.prediction import fuse_views
from weakclip.deeplab.recipe import Retraining
from weakclip.deeplab.released_augmentation import Draws, ReleasedAugmentation, cropped, shifted, zoomed
from weakclip.resampling import resize_without_antialias
from weakclip.seeding import rng
from weakclip.training_augmentation import Drawn, distort_colours, draw_crop

FILE = Path(__file__).with_name("golden.json")
VALUES = 24  # of each result, evenly spread over it
SETTINGS = Retraining(
    network="deeplabv1_resnet38",
    encoder="resnet38",
    encoder_weights="none",
    output_stride=8,
    iterations=40000,
    batch_size=10,
    lr=0.05,
    encoder_lr_factor=0.1,
    weight_decay=5e-4,
    crop_size=448,
    scale=(0.5, 1.5),
    colour=0.1,
    validate_every=1000,
    checkpoint_every=1000,
)


def figures(patch: pytest.MonkeyPatch) -> dict[str, list[float]]:
    """Results by family, thinned."""
    make_slim(patch)
    model = DeepLabV1(5)
    for name, tensor in model.state_dict().items():
        tensor.copy_(torch.from_numpy(np.array(drawn(name, tuple(tensor.shape)))))
    model.eval()
    photo = picture(37, 53)
    with torch.inference_mode():
        logits = model(torch.from_numpy(photo.copy()).permute(2, 0, 1)[None].float())
        logits = model.enlarge(logits, *photo.shape[:2])
    fused = fuse_views(model, photo[None], scales=(0.5, 0.75, 1.0, 1.25, 1.5), flip=True)[0]
    contrast = 60 * (fused - fused.mean(dim=(1, 2), keepdim=True))
    kernel = CrfKernel(1, 3, 112, 20, 3, 3)
    recipe = model.recipe(SETTINGS, photos=100)
    draws = Draws(hue=-6, saturation=8, value=-8, mirror=True, zoom=1.37, top=3, left=-5)
    zoomed_photo, labels = zoomed(shifted(photo, -6, 8, -8), blocks(37, 53), draws)
    augmentation = ReleasedAugmentation(crop_size=64, scale=(0.5, 1.5), shift=10, fill=model.mean.flatten().tolist())
    crop, crop_labels = cropped(zoomed_photo, labels, draws, augmentation)
    place = draw_crop(blocks(37, 53), (20, 20), Drawn(rng(5)))
    return {
        "deeplab_forward": thinned(logits.numpy()),
        "deeplab_tta": thinned(fused.numpy()),
        "deeplab_crf": thinned(sharpen_winners(photo, contrast.softmax(dim=0).numpy(), kernel)),
        "deeplab_lr": [rate for step in (0, 1, 2857, 39999) for rate in recipe.rates_of_step(step)],
        "deeplab_augment": thinned(crop) + thinned(crop_labels),
        "weakclip_augment": [
            *thinned(distort_colours(resize_without_antialias(photo, 50, 71), Drawn(rng(6)))),
            float(place.top),
            float(place.left),
        ],
    }


def drawn(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """A tensor of numbers that depend on its name, of a size at which activations neither vanish nor explode."""
    numbers = rng("golden", name).standard_normal(shape).astype(np.float32)
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.float32)
    if name.endswith("running_var"):
        return np.float32(0.5) + np.abs(numbers)
    if len(shape) == 1:
        return np.float32("bn" in name and name.endswith("weight")) + np.float32(0.2) * numbers
    return numbers / np.sqrt(np.float32(np.prod(shape[1:])))


def picture(height: int, width: int) -> NDArray[np.uint8]:
    """Coloured blocks with noise."""
    coarse = rng("picture").integers(30, 220, (5, 7, 3))
    rows, columns = np.arange(height) * 5 // height, np.arange(width) * 7 // width
    return (coarse[rows[:, None], columns] + rng("noise").integers(-20, 21, (height, width, 3))).astype(np.uint8)


def blocks(height: int, width: int) -> NDArray[np.uint8]:
    """Blocks of classes, one of them ignored."""
    coarse = np.array([[0, 1, 2], [255, 3, 0]], np.uint8)
    return coarse[np.arange(height)[:, None] * 2 // height, np.arange(width) * 3 // width]


def thinned(values: NDArray[np.number]) -> list[float]:
    flat = values.ravel()
    return [round(float(value), 6) for value in flat[np.linspace(0, flat.size - 1, VALUES).astype(int)]]


if __name__ == "__main__":
    with pytest.MonkeyPatch.context() as own_patch:
        FILE.write_text(json.dumps(figures(own_patch), indent=1) + "\n", encoding="utf-8")
