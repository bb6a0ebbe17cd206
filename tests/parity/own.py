"""What the published variant computes on a network and photos of our own: every family in a few hundred kilobytes.

`make_golden.py` keeps it in ``golden/weakclip.npz``, at a commit that agreed with the data of the released code;
`test_golden.py` compares with that, wherever the tests run. Numbers come from names, by numpy's frozen generator.
"""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tests.parity.batches import crfs, without_drops
from tests.released import SIZES, fresh_network, released_names
from weakclip.adaptation import AdaptationSchedule
from weakclip.clip.image_encoder import resize_positions
from weakclip.crf import CrfKernel
from weakclip.datasets.index import Record
from weakclip.inference import Fusion, fitted_size, fuse_probabilities, limit_to_winners, views_of, window_starts
from weakclip.losses import boundary_loss, class_probabilities, cues, score_map_loss, seeding_loss
from weakclip.masks import IGNORE
from weakclip.network.published import MovingImageEncoder
from weakclip.network.weakclip import WeakClip
from weakclip.objective import Objective, add_gradients, boundary_targets, probabilities_at
from weakclip.pseudo_masks import predictor
from weakclip.released.names import our_name
from weakclip.released.training import crf_photos, image_batch, released_groups, released_objective, released_rates
from weakclip.resampling import resize_without_antialias

OWN = Path(__file__).parent / "golden" / "weakclip.npz"
MILD = CrfKernel(gaussian_sxy=1, gaussian_compat=0.5, bilateral_sxy=3, bilateral_srgb=30, bilateral_compat=0.5, iterations=2)
"""The released kernel makes one class of everything in so small a picture."""
Arrays = dict[str, NDArray[Any]]


def stream(name: str) -> np.random.RandomState:
    return np.random.RandomState(zlib.crc32(name.encode()))


def fill(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Weights of moderate size: scales about 1, matrices by their inputs."""
    draw = stream(name).standard_normal(shape)
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    if len(shape) == 1 and not name.endswith(("bias", "mean", "embedding")):
        return torch.from_numpy(1 + 0.1 * np.abs(draw)).float()
    return torch.from_numpy(draw / np.sqrt(max(1, np.prod(shape[1:])))).float()


def own_network() -> WeakClip:
    """The small network of `tests.released`, filled by the released names of its tensors."""
    model = fresh_network()
    state = model.state_dict()
    for name in released_names():
        ours = our_name(name, SIZES.decoder_layers)
        if ours is not None:
            state[ours].copy_(fill(name, tuple(state[ours].shape)))
    state["head.classify.weight"].mul_(0.4)  # classes in doubt, so that the CRF has something to decide
    return model.eval()


def photos(count: int, height: int, width: int) -> NDArray[np.uint8]:
    """Patches of colour with noise."""
    draw = stream("photos")
    patches = draw.uniform(0, 255, (count, 4, 4, 3)).repeat(-(-height // 4), axis=1).repeat(-(-width // 4), axis=2)
    noisy = patches[:, :height, :width] + draw.normal(0, 12, (count, height, width, 3))
    return noisy.clip(0, 255).astype(np.uint8)


def seeds(count: int, side: int) -> torch.Tensor:
    """Blocks of every class and unsure ones; the last image has no background."""
    blocks = stream("seeds").choice([0, 0, 1, 2, IGNORE], (count, 4, 4))
    blocks[-1][blocks[-1] == 0] = IGNORE
    return torch.from_numpy(blocks.repeat(side // 4, axis=1).repeat(side // 4, axis=2)).long()


def compute() -> Arrays:
    """All families, by ``<family>/<what>``."""
    torch.manual_seed(0)
    return inference() | training() | units() | rules()


def inference() -> Arrays:
    model = own_network()
    assert isinstance(model.encoder, MovingImageEncoder)
    images = torch.from_numpy(photos(2, 70, 53)).permute(0, 3, 1, 2)
    with torch.inference_mode():
        logits, scores = model(model.encode(images), 4, 3)
        texts = model.text_encoder()
        levels = model.pyramid([block[:, 1:].transpose(1, 2).unflatten(-1, (4, 3)) for block in model.encode(images)])
    made = {"text/embeddings": texts, "forward/score_map": scores, "forward/logits": logits}
    made |= {f"forward/pyramid{number}": level[:1, ::4] for number, level in enumerate(levels)}
    photo = photos(1, 50, 70)[0]
    fusion = Fusion(
        scales=[0.75, 1.0],
        flip=True,
        base_size=(128, 64),
        window=64,
        stride=40,
        patch=16,
        multiple=1,
        resize=resize_without_antialias,
    )
    (probabilities,) = fuse_probabilities(predictor(model, model.encoder), [photo], 3, fusion)
    arrays = {name: tensor.numpy() for name, tensor in made.items()}
    arrays["tta/probabilities"] = probabilities
    arrays["tta/classes"] = limit_to_winners(probabilities)[0]
    arrays["tta/resized"] = views_of(photo, 3, fusion)[0].pixels
    return arrays


def training() -> Arrays:
    model = own_network()
    objective = released_objective(
        Objective(boundary_weight=1.0, boundary_kernel=MILD, score_map_weight=0.4, score_map_temperature=0.07), (16, 16)
    )
    records = [Record(image_id=name, photo=name, height=64, width=64, split="train", tags=(1,), mask=None) for name in "ab"]
    images = torch.from_numpy(photos(2, 64, 64)).permute(0, 3, 1, 2)
    batch = image_batch(images, seeds(2, 64), (16, 16), model, records)
    schedule = AdaptationSchedule(lr=1e-3, iterations=3, warmup=1, weight_decay=0.03, validate_every=1, checkpoint_every=1)
    optimizer = torch.optim.AdamW(released_groups(model, schedule.weight_decay))
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    with torch.no_grad():
        logits, _ = model(model.encode(images), batch.height, batch.width)
    probabilities = probabilities_at(logits, batch.photos.shape[1:3], objective.align_odd_sizes)
    seen = replace(batch, photos=photos(2, 16, 16))
    (infer,) = crfs(model, seen, objective)
    target = boundary_targets(model.num_classes, seen, objective, infer)(probabilities)()
    arrays: Arrays = {"losses/crf_photos": batch.photos, "losses/crf_target": target.numpy()}
    arrays["losses/crf_floor"] = np.array(objective.boundary_floor)
    history = []
    for step in range(schedule.iterations):
        for group, rate in zip(optimizer.param_groups, released_rates(step, schedule), strict=True):
            group["lr"] = rate
        optimizer.zero_grad()
        losses = add_gradients(model, batch, objective, crfs(model, batch, objective))
        history.append([losses[name].item() for name in sorted(losses)])
        if step == 0:
            norms = [float(parameter.grad.norm()) for _, parameter in model.named_parameters() if parameter.grad is not None]
            arrays["grad_norms/all"] = np.array(norms)
        optimizer.step()
    arrays["mini_training/losses"] = np.array(history)
    moved = [float((parameter.detach() - before[name]).norm()) for name, parameter in model.named_parameters()]
    arrays["mini_training/update_norms"] = np.array(moved)
    model = own_network().train()
    without_drops(model)
    losses = add_gradients(model, batch, objective, crfs(model, batch, objective))
    arrays["trainmode/losses"] = np.array([losses[name].item() for name in sorted(losses)])
    arrays["trainmode/running_mean"] = model.pyramid.to_4x[2].running_mean.numpy()
    return arrays


def units() -> Arrays:
    logits = torch.from_numpy(stream("logits").standard_normal((2, 3, 8, 8))).float().requires_grad_()
    probabilities, labels = class_probabilities(logits), seeds(2, 8)
    target = torch.from_numpy(stream("target").dirichlet([0.3] * 3, (2, 8, 8))).float().permute(0, 3, 1, 2)
    scores = torch.from_numpy(stream("scores").uniform(-1, 1, (2, 3, 4, 4))).float()
    found = {
        "seeding": seeding_loss(probabilities, cues(labels, 3)),
        "boundary": boundary_loss(probabilities, target),
        "score_map": score_map_loss(scores, labels, 0.07, count_unsure=True),
    }
    arrays = {f"loss_units/{name}": np.array(loss.item()) for name, loss in found.items()}
    for name in ("seeding", "boundary"):
        (gradient,) = torch.autograd.grad(found[name], logits, retain_graph=True)
        arrays[f"loss_units/{name}_gradient"] = gradient.numpy()
    images = torch.from_numpy(photos(1, 30, 22)).permute(0, 3, 1, 2).float()
    mean, std = torch.full((3, 1, 1), 120.0), torch.full((3, 1, 1), 58.0)
    arrays["loss_units/crf_photo"] = crf_photos((images - mean) / std, (9, 11), mean, std)
    return arrays


def rules() -> Arrays:
    """Tables: tokens, sizes, windows, rates, groups, and positions as CLIP's are taken over."""
    model = own_network()
    clip_positions = fill("positions", (1 + 14 * 14, 8))
    schedule = AdaptationSchedule(lr=1e-4, iterations=20000, warmup=1500, weight_decay=0, validate_every=1, checkpoint_every=1)
    new, pretrained = ([parameter.numel() for parameter in group["params"]] for group in released_groups(model, 3e-5))  # type: ignore[attr-defined]
    return {
        "tokens/ids": model.text_encoder.ids.numpy(),
        "clip_init/positions": resize_positions(clip_positions, (14, 14), (4, 4), mode="bilinear", antialias=False).numpy(),
        "resize_sizes/table": np.array(
            [fitted_size(375, 500, long_side=2048 * ratio, short_side=512 * ratio) for ratio in (0.5, 0.75, 1, 1.25, 1.5, 1.75)]
        ),
        "slide_windows/table": np.array([window_starts(1024, 512, 341), [*window_starts(853, 512, 341), (0, 0)]]),
        "lr_schedule/table": np.array([released_rates(step, schedule) for step in (0, 1, 749, 1499, 1500, 10000, 19999)]),
        "param_groups/sizes": np.array([[len(new), sum(new)], [len(pretrained), sum(pretrained)]]),
    }
