"""The losses of a batch and what the dense CRF makes of its probabilities."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from weakclip.boundary_crf import InferCrfs, start_crfs
from weakclip.crf import CrfKernel
from weakclip.objective import (
    Objective,
    add_gradients,
    boundary_targets,
    renormalise,
    shrink_seeds,
    start_boundary_crfs,
)
from weakclip.par import ParKernel
from weakclip.pixel_loss import LossClamp
from weakclip.process_pool import KeptProcesses
from weakclip.supervision import Batch

KERNEL = CrfKernel(gaussian_sxy=1, gaussian_compat=3, bilateral_sxy=10, bilateral_srgb=13, bilateral_compat=5, iterations=3)
NAMES = ["seeding_loss", "score_map_loss", "boundary_loss"]


class TwoMaps(nn.Module):
    """Stands in for WeakCLIP: logits and a score map that do not depend on the tokens."""

    num_classes = 4

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.logits = nn.Parameter(torch.randn(2, 4, 8, 8))

    def texts(self) -> Tensor:
        return torch.zeros(0)

    def decode(
        self, tokens: Sequence[Tensor], height: int, width: int, texts: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        return self.logits, self.logits[:, :, ::4, ::4].tanh(), self.logits


def gradient_of(aim: Objective) -> tuple[dict[str, Tensor], Tensor]:
    """The losses of the batch, and the gradient at the logits."""
    model = TwoMaps()
    losses = add_gradients(model, batch(), aim, start_boundary_crfs(4, batch(), aim, START))
    return losses, model.logits.grad


START = start_crfs(KeptProcesses(1))


def crf_targets(aim: Objective, probabilities: Tensor) -> Tensor:
    """The targets of the batch."""
    return boundary_targets(4, batch(), aim, start_boundary_crfs(4, batch(), aim, START)[0])(probabilities)()


def no_crf(photos: NDArray[np.uint8], counts: Sequence[int], kernel: CrfKernel, floor: float) -> InferCrfs:
    raise AssertionError("the CRF is not asked")


def batch() -> Batch:
    """Two images of 16 x 16: the left half is class 1, or class 2 in the second one, and bright."""
    seeds = torch.zeros(2, 16, 16, dtype=torch.long)
    seeds[0, :, :8], seeds[1, :, :8] = 1, 2
    photos = np.repeat(np.where(seeds.numpy() > 0, 220, 30).astype(np.uint8)[..., None], 3, axis=3)
    return Batch(tokens=[], height=2, width=2, photos=photos, seeds=seeds, tags=[(1,), (2, 3)], names=["a", "b"])


def objective(boundary_weight: float, score_map_weight: float = 0.4) -> Objective:
    return Objective(
        boundary_weight=boundary_weight,
        boundary_kernel=KERNEL,
        score_map_weight=score_map_weight,
        score_map_temperature=0.1,
    )


def test_crf_targets_sum_to_one_among_background_and_tags() -> None:
    target = crf_targets(objective(1.0), torch.full((2, 4, 16, 16), 0.25))
    assert torch.allclose(target.sum(dim=1), torch.ones(2, 16, 16), atol=1e-5)
    assert target[0, 2:].abs().max() == 0 and target[1, 1].abs().max() == 0
    assert target[0, :2].min() > 0


def test_crf_targets_follow_the_edges_of_the_photo() -> None:
    probabilities = torch.full((2, 4, 16, 16), 0.05)
    probabilities[0, 0], probabilities[0, 1] = 0.6, 0.25
    probabilities[0, 1, :, :7] = 0.9  # the edge is one pixel off
    target = crf_targets(objective(1.0), probabilities)
    assert (target[0, 1, 2:-2, 7] > 0.5).all() and (target[0, 0, :, 8:] > 0.5).all()


def test_without_the_limit_every_class_is_a_label() -> None:
    aim = replace(objective(1.0), tag_limited=False)
    target = crf_targets(aim, torch.full((2, 4, 16, 16), 0.25))
    assert torch.allclose(target.sum(dim=1), torch.ones(2, 16, 16), atol=1e-5) and target.min() > 0


@pytest.mark.parametrize("tag_limited", [True, False])
def test_torch_makes_the_targets_of_pydensecrf_without_its_processes(tag_limited: bool) -> None:
    aim = replace(objective(1.0), tag_limited=tag_limited)
    probabilities = torch.rand(2, 4, 16, 16, generator=torch.Generator().manual_seed(0)).softmax(dim=1)
    wanted = crf_targets(aim, probabilities)
    in_torch = replace(aim, boundary_kernel=replace(KERNEL, backend="torch"))
    found = boundary_targets(4, batch(), in_torch, None)(probabilities)()
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)
    assert torch.equal(found == 0, wanted == 0)
    assert list(add_gradients(TwoMaps(), batch(), in_torch)) == NAMES
    assert start_boundary_crfs(4, batch(), in_torch, no_crf) == []


def test_crfs_that_were_not_started_are_missed() -> None:
    with pytest.raises(ValueError, match="were not started"):
        add_gradients(TwoMaps(), batch(), objective(1.0))


def test_every_loss_has_its_weight_and_reaches_the_logits() -> None:
    (once, gradient), (twice, steeper) = gradient_of(objective(1.0)), gradient_of(objective(2.0, 0.8))
    assert list(once) == NAMES
    assert [twice[name].item() / once[name].item() for name in NAMES] == pytest.approx([1, 2, 2])
    seeding = gradient_of(objective(0.0, 0.0))[1]
    boundary, score_map = gradient_of(objective(1.0, 0.0))[1] - seeding, gradient_of(objective(0.0))[1] - seeding
    assert all(part.abs().sum() > 0 for part in (seeding, boundary, score_map))
    torch.testing.assert_close(gradient, seeding + boundary + score_map)
    torch.testing.assert_close(steeper, seeding + 2 * boundary + 2 * score_map)


def test_boundary_weight_zero_leaves_the_crf_out() -> None:
    assert list(add_gradients(TwoMaps(), batch(), objective(0.0))) == ["seeding_loss", "score_map_loss"]
    assert start_boundary_crfs(4, batch(), objective(0.0), no_crf) == []


def test_par_makes_targets_without_the_crf() -> None:
    probabilities = torch.full((2, 4, 16, 16), 0.05)
    probabilities[0, 0], probabilities[0, 1] = 0.6, 0.25
    probabilities[0, 1, :, :7] = 0.9  # the edge is one pixel off
    aim = replace(objective(1.0), boundary_kernel=ParKernel(dilations=(1, 2, 4), iterations=5))
    target = boundary_targets(4, batch(), aim, None)(probabilities)()
    assert torch.allclose(target.sum(dim=1), torch.ones(2, 16, 16), atol=1e-5)
    assert target[0, 2:].abs().max() == 0 and target[1, 1].abs().max() == 0
    assert (target[0, 1, :, 7] > 0.5).all() and (target[0, 0, :, 8:] > 0.5).all()
    assert list(add_gradients(TwoMaps(), batch(), aim)) == NAMES
    assert start_boundary_crfs(4, batch(), aim, no_crf) == []


def test_the_affinity_loss_has_its_weight_and_reaches_the_features() -> None:
    (once, gradient), (twice, steeper) = (
        gradient_of(replace(objective(0.0), affinity_weight=weight, affinity_radius=1)) for weight in (0.1, 0.2)
    )
    assert list(once) == ["seeding_loss", "score_map_loss", "affinity_loss"]
    assert twice["affinity_loss"].item() / once["affinity_loss"].item() == pytest.approx(2)
    plain = gradient_of(objective(0.0))[1]
    assert (gradient - plain).abs().sum() > 0
    torch.testing.assert_close(steeper - plain, 2 * (gradient - plain))


def test_features_that_separate_the_seeds_have_a_small_affinity_loss() -> None:
    aim = replace(objective(0.0), affinity_weight=1.0, affinity_radius=1)
    model, apart = TwoMaps(), TwoMaps()
    with torch.no_grad():
        apart.logits.copy_(torch.randn(2, 4, 1, 1).expand(-1, -1, 8, 8))
        apart.logits[:, :, :, 4:] *= -1  # as the seeds: left and right
    found = [add_gradients(network, batch(), aim)["affinity_loss"].item() for network in (apart, model)]
    assert found[0] < 0.5 * found[1]


def test_clamp_and_balance_reach_the_losses() -> None:
    plain = add_gradients(TwoMaps(), batch(), objective(0.0))
    clamped = add_gradients(TwoMaps(), batch(), replace(objective(0.0), clamp=LossClamp(4, 100.0)))
    balanced = add_gradients(TwoMaps(), batch(), replace(objective(0.0), balanced_score_map=True))
    assert all(clamped[name] < plain[name] for name in plain)
    assert balanced["seeding_loss"] == plain["seeding_loss"] and balanced["score_map_loss"] != plain["score_map_loss"]


class FromTokens(nn.Module):
    """Stands in for WeakCLIP: logits of each image from its tokens and the texts, with noise."""

    num_classes = 4

    def __init__(self, said: list[str]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.said, self.words, self.drop = said, nn.Parameter(torch.randn(4, 8)), nn.Dropout2d(0.5)

    def texts(self) -> Tensor:
        self.said.append("texts")
        self.words.register_hook(lambda _: self.said.append("texts back"))
        return self.words * 1

    def decode(self, tokens: Sequence[Tensor], height: int, width: int, texts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        number = sum(line.startswith("forward") for line in self.said)
        self.said.append(f"forward {number}")
        maps = tokens[0].transpose(1, 2).unflatten(-1, (height, width))
        features = self.drop(torch.einsum("bchw,kc->bkhw", maps, texts))
        features.register_hook(lambda _: self.said.append(f"back {number}"))
        return features.repeat_interleave(4, 2).repeat_interleave(4, 3), features.tanh(), features


def four() -> Batch:
    two = batch()
    seeds = torch.cat([two.seeds, two.seeds.flip(2)])
    seeds[1, :9], seeds[3] = 255, 255  # parts of very different numbers of known pixels
    photos = np.concatenate([two.photos, two.photos[:, :, ::-1]])
    tokens = torch.randn(4, 4, 8, generator=torch.Generator().manual_seed(1))
    return Batch(tokens=[tokens], height=2, width=2, photos=photos, seeds=seeds, tags=2 * two.tags, names=list("abcd"))


def in_parts(aim: Objective, micro_batches: int) -> tuple[dict[str, float], Tensor, list[str]]:
    """Losses, the gradient of the texts, and what was done in which order."""
    said: list[str] = []

    def start(photos: NDArray[np.uint8], counts: Sequence[int], kernel: CrfKernel, floor: float) -> InferCrfs:
        number, infer = said.count("lattices"), START(photos, counts, kernel, floor)
        said.append("lattices")

        def send(probabilities: Sequence[NDArray[np.float32]]) -> Callable[[], list[NDArray[np.float32]]]:
            said.append(f"sent {number}")
            results = infer(probabilities)

            def wait() -> list[NDArray[np.float32]]:
                said.append(f"waited {number}")
                return results()

            return wait

        return send

    model = FromTokens(said)
    torch.manual_seed(5)  # the noise
    crfs = start_boundary_crfs(4, four(), aim, start, micro_batches)
    losses = add_gradients(model, four(), aim, crfs, None, micro_batches, lambda: said.append("all sent"))
    return {name: loss.item() for name, loss in losses.items()}, model.words.grad, said


EVERYTHING = replace(objective(1.0), clamp=LossClamp(4, 100.0), balanced_score_map=True, affinity_weight=0.5, affinity_radius=1)


@pytest.mark.parametrize("aim", [objective(1.0), objective(0.0), EVERYTHING], ids=["plain", "without CRF", "everything"])
@pytest.mark.parametrize("micro_batches", [2, 4])
def test_losses_and_gradient_of_micro_batches_are_those_of_the_batch(aim: Objective, micro_batches: int) -> None:
    (losses, gradient, _), (found, sums, _) = in_parts(aim, 1), in_parts(aim, micro_batches)
    assert found == pytest.approx(losses, rel=1e-4)
    torch.testing.assert_close(sums, gradient, rtol=1e-4, atol=1e-5)
    assert gradient.abs().max() > 0.01


def test_crfs_compute_beside_the_network_on_the_other_micro_batches() -> None:
    said = in_parts(objective(1.0), 2)[2]
    assert said == [
        *["lattices", "lattices", "texts"],
        *["forward 0", "sent 0", "forward 1", "sent 1", "all sent"],
        *["waited 0", "back 0", "waited 1", "back 1"],
        "texts back",
    ]


def test_renormalised_probabilities_sum_to_one() -> None:
    values = np.array([[[0.1, 0.3]], [[0.3, 0.3]]], np.float32)
    assert renormalise(values).tolist() == pytest.approx(np.array([[[0.25, 0.5]], [[0.75, 0.5]]]))


def test_seeds_shrink_to_the_pixel_at_the_corner_of_each_cell() -> None:
    seeds = torch.arange(124).expand(1, 62, -1)
    assert shrink_seeds(seeds, (2, 4))[0].tolist() == [[0, 31, 62, 93]] * 2
    assert shrink_seeds(seeds, (62, 124)) is seeds
    # 7 * 124 / 14 is 62, and a little less in the float32 that the released code computes with.
    assert shrink_seeds(seeds, (1, 14))[0, 0, 6:9].tolist() == [53, 61, 70]
