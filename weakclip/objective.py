"""What WeakCLIP is trained for on a batch: seeding and boundary loss on the decoder, cross entropy on the score map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from weakclip.boundary_crf import InferCrfs, StartCrfs
from weakclip.crf import CrfKernel
from weakclip.device import from_host, to_host
from weakclip.losses import boundary_loss, class_probabilities, cues, score_map_loss, seeding_loss
from weakclip.network.weakclip import WeakClip
from weakclip.par import ParKernel, refine_by_pixels
from weakclip.pixel_loss import LossClamp, PixelLoss
from weakclip.predicted_affinity import affinity_labels, affinity_loss, at_tokens, cosine_affinity
from weakclip.supervision import Batch
from weakclip.torch_crf import BatchCrf
from weakclip.training import backward
from weakclip.whole_batch import micro_batch


@dataclass(frozen=True, kw_only=True)
class Objective:
    """``boundary_kernel``: of the dense CRF at the size of the batch's photos, or of PAR, which needs no CPU.

    ``boundary_floor``: what its probabilities are lifted to. ``tag_limited``: whether background and the image's tags are all
    its labels. ``count_unsure``: see `score_map_loss`. ``size``: height and width of the probabilities in the other losses;
    those of the seeds where it is None. ``align_odd_sizes``: whether logits are resized to two odd sides with corners aligned.
    ``clamp``, ``balanced_score_map``: of the cross entropies, see `PixelLoss`. ``affinity_weight``: of the affinity loss on
    the features of the decode head, for pairs of tokens at most ``affinity_radius`` rows and columns apart; 0 leaves it out.
    """

    boundary_weight: float
    boundary_kernel: CrfKernel | ParKernel
    score_map_weight: float
    score_map_temperature: float
    boundary_floor: float = 1e-5
    tag_limited: bool = True
    count_unsure: bool = False
    size: tuple[int, int] | None = None
    align_odd_sizes: bool = False
    clamp: LossClamp | None = None
    balanced_score_map: bool = False
    affinity_weight: float = 0.0
    affinity_radius: int = 0


Targets = Callable[[Tensor], Callable[[], Tensor]]
"""Probabilities (B, K, S, S) -> the function that waits for the targets of the boundary loss, of the same shape."""


def start_boundary_crfs(
    num_classes: int, batch: Batch, objective: Objective, start_crfs: StartCrfs, micro_batches: int = 1
) -> list[InferCrfs]:
    """Starts the CRFs of each part of a batch, whose tensors may be anywhere; none where the boundary loss has none in other
    processes."""
    kernel = objective.boundary_kernel
    if objective.boundary_weight == 0 or isinstance(kernel, ParKernel) or kernel.backend == "torch":
        return []
    return [
        start_crfs(
            part.photos,
            [len(classes) for classes in present_classes(num_classes, part, objective)],
            kernel,
            objective.boundary_floor,
        )
        for part in batch.micro_batches(micro_batches)
    ]


def add_gradients(
    model: WeakClip,
    batch: Batch,
    objective: Objective,
    crfs: Sequence[InferCrfs] = (),
    texts: Tensor | None = None,
    micro_batches: int = 1,
    when_sent: Callable[[], object] = lambda: None,
) -> dict[str, Tensor]:
    """Adds the gradient of the objective on a batch to the network's parameters; returns the weighted losses by name.

    ``crfs``: what `start_boundary_crfs` has given for this batch in as many parts. ``texts``: see `WeakClip.forward`; for a
    training that does not move them. ``micro_batches``: into how many parts the batch is split on its way through the network.
    The CRFs of one compute beside the network, which goes on with the next ones: forward, and then, in the same order,
    backward. The losses are those of the whole batch, and its gradient is the sum of the parts', so this is for networks
    without a norm over the batch. ``when_sent`` is called when all CRFs have their probabilities, which is before the network
    computes backward. Raises ValueError where CRFs are needed that were not started.
    """
    parts = batch.micro_batches(micro_batches)
    bounded = objective.boundary_weight > 0
    started: Sequence[InferCrfs | None] = crfs or [None] * micro_batches
    pairs = zip(parts, started, strict=True)
    bounds = [boundary_targets(model.num_classes, part, objective, infer) for part, infer in pairs] if bounded else []
    shared = Cut(model.texts() if texts is None else texts)  # one pass through the text encoder and back, for all parts
    size = objective.size or batch.seeds.shape[1:]
    outputs, waiting = [], []
    for place, part in enumerate(parts):
        with micro_batch(place, micro_batches, part.seeds.device):
            outputs.append(outputs_of_part(model, part, objective, size, shared.leaf))
        if bounded:
            waiting.append(bounds.pop(0)(outputs[-1][0].leaf.detach()))
    when_sent()
    losses = backward(losses_beside_boundary([in_turns(kind) for kind in zip(*outputs, strict=True)], batch, objective))
    bounding = []
    while outputs:  # what a part has kept for its gradient goes with it
        cuts = outputs.pop(0)
        if bounded:
            loss = objective.boundary_weight * boundary_loss(cuts[0].leaf, waiting.pop(0)()) / micro_batches
            bounding.append(backward({"boundary_loss": loss})["boundary_loss"])
        send_back(cuts)
    send_back([shared])
    return losses | ({"boundary_loss": torch.stack(bounding).sum()} if bounded else {})


def outputs_of_part(model: WeakClip, part: Batch, objective: Objective, size: Sequence[int], texts: Tensor) -> list[Cut]:
    """Probabilities (B, K, *size), the score map (B, K, h, w) and, for the affinity loss, the features (B, D, 4 h, 4 w), each
    cut off from the network."""
    tokens = part.tokens if part.images is None else model.encode(part.images)
    logits, scores, features = model.decode(tokens, part.height, part.width, texts)
    probabilities = probabilities_at(logits, size, objective.align_odd_sizes)
    return [Cut(output) for output in (probabilities, scores, features)[: 3 if objective.affinity_weight > 0 else 2]]


class Cut:
    """A tensor of any shape whose gradient is gathered at a ``leaf`` of the same values, before `send_back` passes it on."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor, self.leaf = tensor, tensor.detach().requires_grad_(tensor.requires_grad)


def send_back(cuts: Sequence[Cut]) -> None:
    """The gradients that have been gathered, from the tensors that were cut off, on to what these were computed from."""
    reached = [cut for cut in cuts if cut.leaf.grad is not None]
    torch.autograd.backward([cut.tensor for cut in reached], [cut.leaf.grad for cut in reached])


def in_turns(parts: Sequence[Cut]) -> Tensor:
    """The leaves (B, ...) of `Batch.micro_batches` as one tensor of the whole batch."""
    return parts[0].leaf if len(parts) == 1 else torch.stack([cut.leaf for cut in parts], dim=1).flatten(0, 1)


def losses_beside_boundary(outputs: Sequence[Tensor], batch: Batch, objective: Objective) -> dict[str, Tensor]:
    """The weighted losses by name, but for that of the boundaries. ``outputs``: probabilities (B, K, S, S), the score map
    (B, K, h, w) and, for the affinity loss, the features (B, D, 4 h, 4 w) of the decode head."""
    probabilities, scores, *features = outputs
    seeds = shrink_seeds(batch.seeds, probabilities.shape[2:])
    losses = {"seeding_loss": seeding_loss(probabilities, cues(seeds, probabilities.shape[1]), objective.clamp)}
    losses["score_map_loss"] = objective.score_map_weight * score_map_loss(
        scores,
        batch.seeds,
        objective.score_map_temperature,
        objective.count_unsure,
        PixelLoss(objective.clamp, objective.balanced_score_map),
    )
    if objective.affinity_weight > 0:
        affinity = cosine_affinity(at_tokens(features[0], batch.height, batch.width))
        pairs = affinity_labels(shrink_seeds(batch.seeds, (batch.height, batch.width)), objective.affinity_radius)
        losses["affinity_loss"] = objective.affinity_weight * affinity_loss(affinity, pairs)
    return losses


def probabilities_at(logits: Tensor, size: Sequence[int], align_odd_sizes: bool) -> Tensor:
    """Class probabilities of logits (B, K, h, w), resized to ``size``."""
    aligned = align_odd_sizes and all(side % 2 == 1 for side in size)
    return class_probabilities(functional.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=aligned))


def shrink_seeds(seeds: Tensor, size: Sequence[int]) -> Tensor:
    """Seeds (B, H, W) at another size: of each cell the pixel at its upper left corner, by torch's rule as in the released
    code (in float32, so that a corner on a whole number may fall on the pixel before it)."""
    if seeds.shape[1:] == tuple(size):
        return seeds
    return functional.interpolate(seeds[:, None].float(), size=tuple(size), mode="nearest")[:, 0].long()


def boundary_targets(num_classes: int, batch: Batch, objective: Objective, infer: InferCrfs | None) -> Targets:
    """What the dense CRF, or PAR, makes of the probabilities of a batch; ``infer``: its CRFs, if they compute elsewhere."""
    kernel = objective.boundary_kernel
    if isinstance(kernel, ParKernel):
        return at_once(partial(par_targets, batch=batch, objective=objective, kernel=kernel))
    if kernel.backend == "torch":
        return at_once(torch_crf_targets(num_classes, batch, objective, kernel))
    if infer is None:
        raise ValueError("the CRFs of the boundary loss were not started: see start_boundary_crfs")
    return crf_targets(present_classes(num_classes, batch, objective), infer)


def at_once(targets: Callable[[Tensor], Tensor]) -> Targets:
    """Targets that are computed, or queued on a GPU, when their probabilities (B, K, S, S) are there."""

    def ask(probabilities: Tensor) -> Callable[[], Tensor]:
        made = targets(probabilities)
        return lambda: made

    return ask


def par_targets(probabilities: Tensor, batch: Batch, objective: Objective, kernel: ParKernel) -> Tensor:
    """What PAR makes of the probabilities (B, K, S, S), all images together, where they are; zero for classes that are none
    of an image's labels."""
    if objective.tag_limited:
        present = torch.zeros(probabilities.shape[:2])
        for row, tags in zip(present, batch.tags, strict=True):
            row[[0, *tags]] = 1
        probabilities = probabilities * present.to(probabilities.device)[:, :, None, None]
    photos = from_host(torch.from_numpy(batch.photos), probabilities.device).permute(0, 3, 1, 2).float()
    refined = refine_by_pixels(photos, probabilities / probabilities.sum(dim=1, keepdim=True), kernel)
    return refined / refined.sum(dim=1, keepdim=True)


def crf_targets(present: Sequence[Sequence[int]], infer: InferCrfs) -> Targets:
    """What pydensecrf makes of each image's probabilities (B, K, S, S) of the classes that are its labels; zero for others."""
    counts = [len(classes) for classes in present]
    rows = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    columns = torch.tensor([index for classes in present for index in classes])

    def ask(probabilities: Tensor) -> Callable[[], Tensor]:
        places = from_host(rows, probabilities.device), from_host(columns, probabilities.device)
        chosen = to_host(probabilities[places]).split(counts)  # only what the CRFs need leaves a GPU, at once
        results = infer([renormalise(value.numpy()) for value in chosen])

        def targets() -> Tensor:
            target = torch.zeros_like(probabilities)
            target[places] = from_host(torch.from_numpy(np.concatenate(results())), target.device)
            return target

        return targets

    return ask


def torch_crf_targets(num_classes: int, batch: Batch, objective: Objective, kernel: CrfKernel) -> Callable[[Tensor], Tensor]:
    """What `crf_targets` waits for, (B, K, S, S), for all images together and on their device; lattices are built here.

    The CRF sees (B, n, S, S) of them, n being the most labels that an image has.
    """
    present = present_classes(num_classes, batch, objective)
    device = batch.seeds.device
    classes = pad_sequence([torch.tensor(labels) for labels in present], batch_first=True)
    labels = from_host(torch.arange(classes.shape[1]) < torch.tensor([[len(labels)] for labels in present]), device)
    classes = from_host(classes, device)
    crf = BatchCrf(from_host(torch.from_numpy(batch.photos), device), kernel)

    def targets(probabilities: Tensor) -> Tensor:
        columns = classes[:, :, None, None].expand(-1, -1, *probabilities.shape[2:])
        chosen = probabilities.gather(1, columns) * labels[:, :, None, None]
        refined = crf(chosen / chosen.sum(dim=1, keepdim=True), labels, objective.boundary_floor)
        # Added, for columns that are none of an image's labels are zeros for class 0.
        return torch.zeros_like(probabilities).scatter_add_(1, columns, refined)

    return targets


def present_classes(num_classes: int, batch: Batch, objective: Objective) -> list[list[int]]:
    """The labels that the CRF of each image has."""
    return [[0, *tags] if objective.tag_limited else list(range(num_classes)) for tags in batch.tags]


def renormalise(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, S, S) so that every pixel sums to one."""
    total: NDArray[np.float32] = probabilities.sum(axis=0, keepdims=True)
    return probabilities / total
