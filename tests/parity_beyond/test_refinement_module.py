"""The refinement module of WeCLIP: which layers agree with the predicted affinity, and what they make of CAMs."""

import numpy as np
import pytest
import torch

from tests.parity_beyond.cases import Case, cases, marked, opened, seed, weights
from weakclip.cam.affinity import affinity, spread
from weakclip.predicted_affinity import agreeing_layers, guided_attention, layer_differences, product_affinity

TOLERANCE = 2e-5
BOXES = {"voc": (6, 0.4), "coco": (10, 0.7)}
"""Last layers that may be selected, and box threshold."""


@pytest.mark.parametrize("case", marked(cases("refinement_module")))
def test_layers_are_selected_and_maps_refined_as_published(case: Case) -> None:
    with opened(case) as stored:
        height, width = stored.array("grid").tolist()
        attention = layers(stored.shape("attention"), seed(case))
        stored.check_of_max("attention", attention.numpy(), TOLERANCE)
        features = torch.from_numpy(weights().image("rfm_features", (1, 6, height, width), seed(case)))
        predicted = product_affinity(features * 0.5**0.5)
        stored.check_of_max("segment_affinity", predicted.numpy(), TOLERANCE)
        maps = torch.from_numpy(stored.array("cams"))
        for name, (last, threshold) in BOXES.items():
            patches = attention[-last:, 1:, 1:]
            stored.check_of_max(f"rfm_difference_last{last}", layer_differences(patches, predicted[0]).numpy(), TOLERANCE)
            stored.check(f"rfm_selected_last{last}", agreeing_layers(patches, predicted[0]).numpy())
            guided = affinity(guided_attention(patches, predicted[0]))
            stored.check_of_max(f"refined_{name}_rfm", spread(maps, guided, threshold, limit_ends=True).numpy(), TOLERANCE)


def layers(shape: tuple[int, ...], number: int) -> torch.Tensor:
    """Attention of as many layers (L, N, N), the class token's column stronger in some of them."""
    scores = 1.5 * shape[-1] * weights().fill("rfm_attention", shape, number)
    scores[:, :, 0] += (3 + 1.5 * np.sin(1.7 * np.arange(shape[0])))[:, None]
    return torch.from_numpy(scores).softmax(dim=-1)
