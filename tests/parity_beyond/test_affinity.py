"""Class-aware attention affinity on given attention and maps."""

import numpy as np
import pytest
import torch

from tests.parity_beyond.cases import Case, cases, marked, opened, seed, weights
from tests.parity_beyond.networks import softmax
from tests.parity_beyond.test_gradcam import check_boxes
from weakclip.cam.affinity import affinity, box_mask, spread
from weakclip.clip.attention import patches_only

TOLERANCE = 2e-5
LAST = 8
BOXES = {"voc": 0.4, "coco": 0.7}


def given_attention(shape: tuple[int, ...], number: int) -> np.ndarray:
    """(blocks, N, N), rows sum to 1, peaked at the class token by a different amount in each block."""
    scores = 1.5 * weights().fill("rfm_attention", shape, number).astype(np.float64) * shape[-1]
    scores[:, :, 0] += 3 + 1.5 * np.sin(1.7 * np.arange(shape[0]))[:, None]
    return softmax(scores)


@pytest.mark.parametrize("case", marked(cases("affinity")))
def test_given_maps_are_spread(case: Case) -> None:
    with opened(case) as stored:
        attention = given_attention(stored.shape("attention"), seed(case))
        stored.check_of_max("attention", attention, TOLERANCE)
        height, width = stored.array("grid").tolist()
        maps = torch.from_numpy(stored.array("cams"))
        assert maps.shape == (len(stored.array("classes")), height, width)
        affinities = affinity(patches_only(torch.from_numpy(attention).float())[-LAST:].mean(dim=0))
        for name, threshold in BOXES.items():
            refined = spread(maps, affinities, threshold, limit_ends=True)
            stored.check_of_max(f"refined_{name}_caa", refined.numpy(), TOLERANCE)
            check_boxes(stored, f"boxes_{name}_{{}}", maps.numpy(), threshold)
        stored.check_of_max("peaky_transition", peaky_transition(stored.array("peaky_attention")), TOLERANCE)
        check_boxes(stored, "edge_boxes_{}", stored.array("edge_maps"), BOXES["voc"])
        for number, plane in enumerate(stored.array("edge_maps")):
            stored.check(f"edge_mask_{number}", box_mask(plane, BOXES["voc"], limit_ends=True))


def peaky_transition(attention: np.ndarray) -> np.ndarray:
    return affinity(torch.from_numpy(attention)).numpy()
