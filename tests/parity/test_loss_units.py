"""Each loss alone, on given probabilities."""

import numpy as np
import pytest
import torch

from tests.parity.batches import weighted
from tests.parity.cases import Case, cases, golden, marked
from weakclip.crf import CrfKernel, dense_crf
from weakclip.losses import boundary_loss, class_probabilities, cues, score_map_loss, seeding_loss
from weakclip.network.published import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from weakclip.objective import renormalise
from weakclip.released.training import BOUNDARY_FLOOR, crf_photos


@pytest.mark.parametrize("case", marked(cases("loss_units")))
def test_seeding_and_boundary(case: Case) -> None:
    stored = golden().Golden(case.path)
    logits = torch.from_numpy(stored.stored("logits")).requires_grad_()
    probabilities = class_probabilities(logits)
    stored.check("probs", probabilities.detach().numpy(), atol=1e-6, rtol=1e-5)
    cue = cues(torch.from_numpy(stored.stored("labels").astype(np.int64)), probabilities.shape[1])
    stored.check("cues_sum_per_class", cue.sum(dim=(2, 3)).numpy(), atol=0, rtol=0)

    for number in range(len(logits)):
        alone = seeding_loss(probabilities[number, None], cue[number, None])
        stored.check(f"seeding_{number}", alone.detach().numpy().reshape(1), atol=1e-7, rtol=1e-4)
    target = torch.from_numpy(stored.stored("crf_q"))
    for name, loss in (
        ("seeding", seeding_loss(probabilities, cue)),
        ("boundary", boundary_loss(probabilities, target)),
    ):
        stored.check("seeding_batch" if name == "seeding" else name, loss.detach().numpy().reshape(1), atol=0, rtol=1e-4)
        (gradient,) = torch.autograd.grad(loss, logits, retain_graph=True)
        stored.check(f"{name}_grad_logits", gradient.numpy(), atol=1e-7, rtol=1e-3)


@pytest.mark.parametrize("case", marked(cases("loss_units")))
def test_no_gradient_where_the_ratio_is_cut(case: Case) -> None:
    stored = golden().Golden(case.path)
    probabilities = torch.from_numpy(stored.stored("probs"))
    target = torch.from_numpy(stored.stored("crf_q")).clamp_min(1e-4)
    ratio = target / target.sum(dim=1, keepdim=True) / probabilities
    low, high = stored.stored("ratio_clipped_low_high_counts").tolist()
    assert (int((ratio < 0.05).sum()), int((ratio > 20).sum())) == (low, high)


@pytest.mark.parametrize("case", marked(cases("loss_units")))
def test_score_map(case: Case) -> None:
    stored = golden().Golden(case.path)
    scores = torch.from_numpy(stored.stored("score_map")).requires_grad_()
    seeds = torch.from_numpy(stored.stored("labels").astype(np.int64))
    aim = weighted(case, case["score_map_weight"])
    loss = aim.score_map_weight * score_map_loss(scores, seeds, aim.score_map_temperature, count_unsure=True)
    stored.check("aux_loss_ce", loss.detach().numpy().reshape(1), atol=0, rtol=1e-4)
    (gradient,) = torch.autograd.grad(loss, scores)
    stored.check("aux_grad_score_map", gradient.numpy(), atol=1e-7, rtol=1e-3)


@pytest.mark.parametrize("case", marked(cases("loss_units")))
def test_crf_of_the_boundary_loss(case: Case) -> None:
    stored = golden().Golden(case.path)
    photos = torch.from_numpy(stored.stored("crfop_photo_rgb")).permute(0, 3, 1, 2)
    mean, std = (torch.tensor(values).view(3, 1, 1) * 255 for values in (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD))
    small = stored.stored("crfop_image_small")
    made = crf_photos((photos.float() - mean) / std, small.shape[1:3], mean, std)
    difference = np.abs(made.astype(int) - small)
    assert (difference == 0).mean() >= 0.9 and difference.max() <= 1

    for photo, floored, log_q in zip(small, stored.stored("crfop_probs_floored"), stored.stored("crfop_log_q"), strict=True):
        refined = renormalise(
            np.maximum(dense_crf(photo, floored, CrfKernel(**case["kernel"]), BOUNDARY_FLOOR), BOUNDARY_FLOOR)
        )
        np.testing.assert_allclose(refined, np.exp(log_q), atol=1e-4)
