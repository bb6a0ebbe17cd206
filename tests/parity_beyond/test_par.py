"""Pixel-adaptive refinement against the published code."""

import numpy as np
import pytest
import torch

from tests.parity_beyond.cases import Case, cases, marked, opened, seed, weights
from weakclip.par import ParKernel, neighbour_distances, refine_by_pixels

TOLERANCE = 2e-5


@pytest.mark.parametrize("case", marked(cases("par")))
def test_maps_are_refined_as_published(case: Case) -> None:
    with opened(case) as stored:
        for number in stored.numbers("maps_{}"):
            shape, maps = stored.array(f"photo_shape_{number}"), stored.array(f"maps_{number}")
            photo = weights().photo_like(f"par{number}", shape, seed(case)).astype(np.float32) / 255
            dilations = tuple(stored.array(f"dilations_{number}").tolist())
            for name, iterations in (("one_iteration", 1), ("refined", int(stored.array(f"iterations_{number}")))):
                kernel = ParKernel(dilations=dilations, iterations=iterations)
                refined = refine_by_pixels(torch.from_numpy(photo).permute(2, 0, 1)[None], torch.from_numpy(maps), kernel)
                stored.check_of_max(f"{name}_{number}", refined.numpy(), TOLERANCE)
        default = next(n for n in stored.numbers("dilations_{}") if 8 * len(stored.array(f"dilations_{n}")) == 48)
        distances = neighbour_distances(stored.array(f"dilations_{default}").tolist())
        stored.check_of_max("neighbour_distances_default", distances, TOLERANCE)
