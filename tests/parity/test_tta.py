"""Test-time augmentation: sizes, resizing, and the mean over scales and mirrors."""

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.parity.cases import Case, cases, folder, golden, marked, read_json
from tests.parity.networks import load_network, window_and_stride
from weakclip.datasets.pickled import read_pickled_dictionary
from weakclip.inference import Fusion, fitted_size, fuse_probabilities, gather_logits, limit_to_winners, views_of
from weakclip.network.trained import TrainedWeakClip
from weakclip.pseudo_masks import predictor

MOST = 0.999
"""Share of pixels whose class agrees."""


def fusion(case: Case, network: TrainedWeakClip) -> Fusion:
    window, stride = window_and_stride(case)
    return Fusion(
        scales=case["ratios"],
        flip=True,
        base_size=tuple(case["base_size"]),
        window=window,
        stride=stride,
        patch=network.encoder.patch,
        multiple=network.multiple,
        resize=network.resize,
    )


@pytest.mark.parametrize("case", marked(cases("resize_sizes")))
def test_resize_rule(case: Case) -> None:
    table = read_json(case)
    for values in table["rows"]:
        row = dict(zip(table["columns"], values, strict=True))
        long_side, short_side = row["scale_long"], row["scale_short"]
        assert fitted_size(row["h"], row["w"], long_side=long_side, short_side=short_side) == (row["new_h"], row["new_w"])


@pytest.mark.parametrize("case", marked(cases("tta")))
def test_views_are_resized_as_by_opencv(case: Case) -> None:
    stored, network = golden().Golden(case.path), load_network(case)
    photo = stored.stored("photo_rgb")
    views = views_of(photo, network.classes.num_classes, fusion(case, network))
    assert [list(view.pixels.shape[1::-1]) for view in views] == stored.stored("scales_wh").tolist()
    assert [view.mirrored for view in views] == stored.stored("flips").tolist()
    stored.check("resized0_rgb", views[0].pixels, atol=0, rtol=0)
    for name, view in (("input0", views[0]), ("input_last_flip", views[-1])):
        stored.check(name, normalised(network, view.pixels)[None], atol=1e-5, rtol=1e-5)


def normalised(network: TrainedWeakClip, pixels: NDArray[np.generic]) -> NDArray[np.float32]:
    encoder = network.encoder
    mean, std = encoder.mean.numpy(), encoder.std.numpy()
    return ((pixels.astype(np.float32).transpose(2, 0, 1) - mean) / std).astype(np.float32)


@pytest.mark.parametrize("case", marked(cases("tta")))
def test_probabilities_of_twelve_views(case: Case) -> None:
    stored, network = golden().Golden(case.path), load_network(case)
    photo, num_classes, settings = stored.stored("photo_rgb"), network.classes.num_classes, fusion(case, network)
    predict = predictor(network.model, network.encoder)
    first = views_of(photo, num_classes, settings)[:2]
    gather_logits(predict, first, settings.windows_along)
    for name, view in zip(("prob_first_noflip", "prob_first_flip"), first, strict=True):
        stored.check(name, view.probabilities(photo.shape[:2])[None].numpy(), atol=case["atol"], rtol=0)

    (fused,) = fuse_probabilities(predict, [photo], num_classes, settings)
    stored.check("prob_avg", fused[None], atol=case["atol"], rtol=0)
    classes, kept = limit_to_winners(fused)
    assert classes.tolist() == stored.stored("keys").tolist()
    winners = classes[kept.argmax(axis=0)]
    assert stored.agreement("pred", winners[None]) >= MOST

    example = read_pickled_dictionary(folder() / case["example"])
    assert example["keys"].tolist() == classes.tolist()
    np.testing.assert_allclose(kept, example["prob"], atol=case["atol"])
    assert np.mean(winners == example["pred"][0]) >= MOST
