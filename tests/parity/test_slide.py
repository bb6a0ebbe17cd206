"""Sliding windows: their table, and the probabilities they give."""

from functools import partial

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.parity.cases import Case, cases, golden, marked, read_json
from tests.parity.networks import as_pixels, load_network, make_input, window_and_stride
from weakclip.inference import ViewLogits, gather_logits, window_starts
from weakclip.network.trained import TrainedWeakClip
from weakclip.pseudo_masks import predictor


def gathered(
    network: TrainedWeakClip, image: NDArray[np.float32], window: int, stride: int, mirrored: bool = False
) -> ViewLogits:
    """One view of one image, with the logits of its windows."""
    (pixels,) = as_pixels(network, image).permute(0, 2, 3, 1).numpy()  # one image; several are for the network alone
    view = ViewLogits(pixels, network.classes.num_classes, mirrored=mirrored)
    with torch.inference_mode():
        gather_logits(predictor(network.model, network.encoder), [view], partial(window_starts, window=window, stride=stride))
    return view


@pytest.mark.parametrize("case", marked(cases("slide_windows")))
def test_window_table(case: Case) -> None:
    for entry in read_json(case):
        windows = [
            [top, bottom, left, right]
            for top, bottom in window_starts(entry["h"], entry["crop"], entry["stride"])
            for left, right in window_starts(entry["w"], entry["crop"], entry["stride"])
        ]
        assert windows == entry["windows_y1y2x1x2"]


@pytest.mark.parametrize("case", marked(cases("slide")))
def test_slide(case: Case) -> None:
    stored, network = golden().Golden(case.path), load_network(case)
    window, stride = window_and_stride(case)
    image, size = make_input(case["input"], case["seed"]), tuple(case["original"])
    names, prefix = set(stored.names()), case.get("prefix", "")
    atol, rtol = case["atol"], case["rtol"]
    if not prefix:
        stored.check("image", image, atol=0, rtol=0)

    view = gathered(network, image, window, stride)
    probabilities = view.probabilities(size)[None].numpy()
    stored.check(f"{prefix}prob", probabilities, atol=atol, rtol=0)
    if f"{prefix}argmax" in names:
        assert stored.agreement(f"{prefix}argmax", probabilities.argmax(axis=1).astype(np.uint8)) >= 0.999
    if "slide_logits" in names:
        logits = (view.logits / view.count)[None]
        stored.check("slide_logits", logits.numpy(), atol=atol, rtol=rtol)
        rescaled = torch.nn.functional.interpolate(logits, size=size, mode="bilinear", align_corners=False)
        stored.check("slide_logits_rescaled", rescaled.numpy(), atol=atol, rtol=rtol)
    if "prob_flip_h" in names:
        mirrored = gathered(network, image, window, stride, mirrored=True).probabilities(size)[None].numpy()
        stored.check("prob_flip_h", mirrored, atol=atol, rtol=0)
        stored.check("prob_flip_v", probabilities[:, :, ::-1], atol=atol, rtol=0)
    if "prob_whole" in names:
        whole = gathered(network, image, max(image.shape), max(image.shape)).probabilities(size)[None].numpy()
        stored.check("prob_whole", whole, atol=atol, rtol=0)
