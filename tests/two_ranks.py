"""What two ranks compute of the halves of a batch, against what one computes of the whole; run under torchrun.

Prints for each network the largest difference of its losses, gradients and statistics, each as a share of the largest value of
its kind, and what ranks tell each other.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from tests.deeplab.slim_resnet38 import make_slim
from weakclip import ranks
from weakclip.boundary_crf import start_crfs
from weakclip.cam.classifier import CamClassifier, tag_loss, tag_scores
from weakclip.clip.model import load_clip
from weakclip.crf import CrfKernel
from weakclip.deeplab.deeplabv1 import DeepLabV1
from weakclip.deeplab.model import build_deeplab
from weakclip.masks import IGNORE
from weakclip.network.published import build_published, start_from_clip
from weakclip.network.weakclip import WeakClip, WeakClipSizes, build_weakclip
from weakclip.objective import Objective, add_gradients, start_boundary_crfs
from weakclip.pixel_loss import PLAIN, LossClamp
from weakclip.process_pool import KeptProcesses
from weakclip.ranks import joined, world
from weakclip.supervision import Batch
from weakclip.training import backward
from weakclip.whole_batch import average_gradients, whole_batch

BATCH = 4
NAMES = ("cat", "dog")
SIZES = WeakClipSizes(
    context_length=2, pyramid_adapter=True, co_attention=True, decoder_width=16, decoder_layers=1, decoder_heads=2, channels=16
)
KERNEL = CrfKernel(gaussian_sxy=1, gaussian_compat=3, bilateral_sxy=10, bilateral_srgb=13, bilateral_compat=5, iterations=1)


@dataclass(frozen=True)
class Case:
    """A network, made anew, and the loss of a part of the batch, whose gradients are added to the network's."""

    build: Callable[[], nn.Module]
    loss: Callable[[nn.Module, slice], Tensor]


def images() -> Tensor:
    return torch.rand(BATCH, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 255


def labels() -> Tensor:
    """Masks of two classes with unsure pixels, many more of them in the second half of the batch."""
    drawn = torch.randint(0, 3, (BATCH, 64, 64), generator=torch.Generator().manual_seed(2))
    drawn[2:, :50] = IGNORE
    drawn[0, 0] = IGNORE
    return drawn


OBJECTIVE = Objective(boundary_weight=1, boundary_kernel=KERNEL, score_map_weight=0.4, score_map_temperature=0.07)
BY_TORCH = replace(OBJECTIVE, boundary_kernel=replace(KERNEL, backend="torch"))
AGAINST_NOISE = replace(OBJECTIVE, clamp=LossClamp(16, 100.0), balanced_score_map=True, affinity_weight=0.1, affinity_radius=4)


def weakclip_loss(model: nn.Module, part: slice, objective: Objective = OBJECTIVE, micro_batches: int = 1) -> Tensor:
    assert isinstance(model, WeakClip)
    tokens = torch.rand(BATCH, 65, 128, generator=torch.Generator().manual_seed(3))
    batch = Batch(
        tokens=[tokens[part]] * 3,
        height=8,
        width=8,
        photos=images()[part].permute(0, 2, 3, 1).byte().numpy(),
        seeds=labels()[part],
        tags=[(1,), (2,), (1, 2), ()][part],
        names=[],
        images=None if model.encoder is None else images()[part],
    )
    crfs = start_boundary_crfs(model.num_classes, batch, objective, start_crfs(KeptProcesses(1)), micro_batches)
    losses = add_gradients(model.train(), batch, objective, crfs, None, micro_batches)
    return torch.stack(list(losses.values())).sum()


def deeplab_loss(model: nn.Module, part: slice) -> Tensor:
    """In double precision: many norms over few pixels make much of a rounding."""
    logits = model.train().double()(images()[part].double())
    enlarged = nn.functional.interpolate(logits, size=(64, 64), mode="bilinear")
    return backward({"loss": PLAIN(enlarged, labels()[part])})["loss"]


def cam_loss(model: nn.Module, part: slice) -> Tensor:
    visual = torch.rand(BATCH, 9, 8, generator=torch.Generator().manual_seed(3))
    tags = torch.tensor([[1, 1], [1, 0], [0, 0], [0, 0]]).bool()
    return backward({"loss": tag_loss(tag_scores(model(visual[part]), 2, 0.2), tags[part])})["loss"]


def slim_resnet38() -> nn.Module:
    with pytest.MonkeyPatch.context() as patch:
        make_slim(patch)
        return DeepLabV1(3)


def mini_deeplab() -> nn.Module:
    return build_deeplab(network="deeplabv3plus", encoder="mini", encoder_weights="mini", num_classes=3, output_stride=16)


def repaired() -> nn.Module:
    return build_weakclip(
        load_clip("mini", "mini"), class_names=NAMES, synonyms=((), ()), background_words=("grass", "sky"), sizes=SIZES
    )


CASES = {
    "repaired": Case(repaired, weakclip_loss),
    "torch_crf": Case(repaired, partial(weakclip_loss, objective=BY_TORCH)),
    "noise": Case(repaired, partial(weakclip_loss, objective=AGAINST_NOISE)),
    "micro_batches": Case(repaired, lambda model, part: weakclip_loss(model, part, AGAINST_NOISE, world().count)),
    "published": Case(
        lambda: build_published(
            start_from_clip(load_clip("mini", "mini"), 64, 2), blocks=(1, 3, 4), class_names=NAMES, sizes=SIZES
        ),
        weakclip_loss,
    ),
    "deeplabv3plus": Case(mini_deeplab, deeplab_loss),
    "deeplabv1": Case(slim_resnet38, deeplab_loss),
    "cam": Case(lambda: CamClassifier(torch.rand(3, 8), 2, 0.1), cam_loss),
}


def step(case: Case, part: slice) -> dict[str, dict[str, Tensor]]:
    """Loss, gradients, and statistics of the batch norms, after one step on a part of the batch."""
    torch.manual_seed(0)
    model = case.build()
    torch.manual_seed(5)  # the noise
    with whole_batch():
        loss = case.loss(model, part)
    average_gradients(list(model.parameters()))
    return {
        "loss": {"": world().average(loss)},
        "gradients": {name: p.grad for name, p in model.named_parameters() if p.grad is not None},
        "statistics": {name: value for name, value in model.named_buffers() if "running" in name},
    }


def difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    assert one.keys() == other.keys()
    largest = max((float(value.abs().max()) for value in one.values()), default=1.0)
    return max((float((one[name] - other[name]).abs().max()) / largest for name in one), default=0.0)


def main() -> None:
    torch.set_num_threads(1)
    alone = {name: step(case, slice(None)) for name, case in CASES.items()}
    with joined():
        for name, case in CASES.items():
            together = step(case, world().part(BATCH, "the batch"))
            gradients = world().gathered({key: value.tolist() for key, value in together["gradients"].items()})
            if world().main:
                shares = {kind: difference(alone[name][kind], together[kind]) for kind in together}
                print(name, " ".join(f"{kind} {share:.1e}" for kind, share in shares.items()))
                print(name, "the same bits on both ranks", gradients[0] == gradients[1])
        told = world().gathered(world().rank), world().share("abcde"), ranks.node().count, world().stacked(torch.ones(1)).shape
        with world().main_first():
            # With its end: both ranks write to one pipe, and print may write that apart.
            print("first\n" if world().main else "second\n", end="", flush=True)
        if world().main:
            print(" ".join(map(str, told)) + "\n", end="", flush=True)
        ranks.leave_to_main()
        assert world().count == 1
        print("the rest is for the main rank\n", end="", flush=True)


if __name__ == "__main__":
    main()
