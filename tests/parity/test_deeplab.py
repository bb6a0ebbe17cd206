"""DeepLabV1-ResNet38 against the released code: network, fusion of views, CRF, optimiser and augmentation."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.parity.cases import Case, cases, folder, golden, marked, read_json, weights
from weakclip.crf import CrfKernel
from weakclip.datasets.index import ClassList
from weakclip.deeplab.deeplabv1 import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, DeepLabV1, parameter_groups
from weakclip.deeplab.postprocessing import sharpen_winners
from weakclip.deeplab.prediction import fuse_views, load_deeplab
from weakclip.deeplab.recipe import Retraining
from weakclip.deeplab.released import import_deeplab
from weakclip.deeplab.released_augmentation import Draws, ReleasedAugmentation, cropped, shifted, zoomed
from weakclip.pixel_loss import PLAIN

SETTINGS = {
    "network": "deeplabv1_resnet38",
    "encoder": "resnet38",
    "encoder_weights": "none",
    "output_stride": 8,
    "batch_size": 10,
    "weight_decay": 5e-4,
    "crop_size": 448,
    "scale": (0.5, 1.5),
    "colour": 0.1,
    "validate_every": 1000,
    "checkpoint_every": 1000,
}
"""Of a recipe whose rates are looked at, on which none of these has an influence."""


Networks = dict[tuple[str, int], DeepLabV1]


@pytest.fixture(scope="module")
def networks() -> Iterator[Networks]:
    """Networks that are filled already, by manifest and seed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WEAKCLIP_DEVICE", "cpu")
        yield {}


def filled(case: Case, networks: Networks, scratch: Path) -> DeepLabV1:
    """The network of a case, by the way of a user: a checkpoint as released, imported, and loaded for inference."""
    described = read_json(case, "manifest")
    key = str(case["manifest"]), case["seed"]
    if key not in networks:
        state = {name: torch.from_numpy(weights().fill(name, shape, key[1])) for name, (shape, _) in described["keys"].items()}
        torch.save(state, scratch / "released.pth")
        names = tuple(f"class {index}" for index in range(1, described["num_classes"]))
        classes = ClassList(names=names, synonyms=((),) * len(names), background_words=())
        imported = import_deeplab(scratch / "released.pth", classes, scratch / "deeplab")
        assert imported.used == described["num_keys"] and not imported.unused
        (scratch / "released.pth").unlink()
        model = load_deeplab(scratch / "deeplab")
        assert isinstance(model, DeepLabV1)
        assert sum(parameter.numel() for parameter in model.parameters()) == described["num_parameters"]
        networks[key] = model
    return networks[key]


@pytest.mark.parametrize("case", marked(cases("deeplab_forward")))
def test_network_and_loss(case: Case, networks: Networks, tmp_path: Path) -> None:
    model = filled(case, networks, tmp_path)
    stored = golden().Golden(case.path)
    assert sum(name.startswith("image") for name in stored.names()) == len(case["inputs"])
    for index, given in enumerate(case["inputs"]):
        image = torch.from_numpy(weights().image(given["tag"], given["shape"], case["seed"]))
        stored.check(f"image{index}", image.numpy())
        photos = image * model.std + model.mean
        height, width = given["shape"][-2:]
        with torch.inference_mode():
            stored.check(f"backbone{index}", model.backbone(model.normalised(photos)).numpy(), **case.tolerance)
            logits = model.enlarge(model(photos), height, width)
        stored.check(f"logits{index}", logits.numpy(), **case.tolerance)
        labels = weights().labels(given["tag"], (len(image), height, width), model.cls_conv.out_channels, case["seed"])
        loss = PLAIN(logits, torch.from_numpy(labels).long())
        stored.check(f"loss{index}", np.array([loss.item()]), atol=0, rtol=1e-4)


@pytest.mark.parametrize("case", marked(cases("deeplab_tta")))
def test_views_are_fused_as_released(case: Case, networks: Networks, tmp_path: Path) -> None:
    model = filled(case, networks, tmp_path)
    stored = golden().Golden(case.path)
    photo = stored.stored("photo_rgb")
    seen: list[torch.Tensor] = []
    handle = model.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    fused = fuse_views(model, photo[None], scales=stored.stored("rates").tolist(), flip=True)[0].numpy()
    handle.remove()
    assert [list(view.shape[-2:]) for view in seen] == stored.stored("msf_shapes").tolist()
    inputs = [name for name in stored.names() if name.startswith("input")]
    assert inputs
    for name in inputs:
        stored.check(name, seen[int(name.removeprefix("input"))].numpy(), **case.tolerance)
    winners = fused.argmax(axis=0)
    keys = stored.stored("saved_keys")
    assert np.unique(winners).tolist() == keys.tolist()
    assert stored.agreement("saved_pred", winners) >= 0.999
    stored.check("saved_prob", fused[keys], **case.tolerance)


@pytest.mark.parametrize("case", marked(cases("deeplab_crf")))
def test_crf_of_the_evaluation(case: Case) -> None:
    stored = golden().Golden(case.path)
    photo = golden().Golden(folder() / case["photo"]).stored("photo_rgb")
    keys, logits = stored.stored("keys"), torch.from_numpy(stored.stored("logits"))
    assert set(logits.argmax(dim=0).unique().tolist()) == set(range(len(keys)))  # as of every file that is saved
    everything = torch.full((case["num_classes"], *photo.shape[:2]), -30.0)
    everything[torch.from_numpy(keys)] = logits
    probabilities = functional.softmax(everything, dim=0).numpy()
    for name, kernel in case["kernels"].items():
        sharpened = sharpen_winners(photo, probabilities, CrfKernel(**kernel))
        assert stored.agreement(f"{name}_label", sharpened.argmax(axis=0)) >= 0.999
        stored.check(f"{name}_q", sharpened[keys], atol=1e-4, rtol=0)
    compared = {f"{name}_{what}" for name in case["kernels"] for what in ("q", "label")}
    assert set(stored.names()) - compared == {"keys", "logits"}


@pytest.mark.parametrize("case", marked(cases("deeplab_lr")))
def test_learning_rates_and_parameter_groups(case: Case, networks: Networks, tmp_path: Path) -> None:
    model, described = filled(case, networks, tmp_path), read_json(case, "manifest")["parameter_groups"]
    table, (encoder, _, head, _) = read_json(case), described["lr_mult"]
    for row in table["rows"]:
        of = dict(zip(table["columns"], row, strict=True))
        # The released rate is that of the encoder, ours that of the head.
        settings = Retraining(**SETTINGS, lr=head * of["lr_init"], encoder_lr_factor=encoder / head, iterations=of["max_itr"])
        rates = model.recipe(settings, photos=100).rates_of_step(of["itr"])
        np.testing.assert_allclose(rates, [of[f"group{index}"] for index in range(4)], rtol=1e-9)

    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = [[names[id(p)] for p in group["params"]] for group in parameter_groups(model, 5e-4)]
    assert [len(group) for group in groups] == described["counts"]
    assert all(groups[index] == described[f"group{index}"] for index in range(4) if f"group{index}" in described)
    grouped = {name for group in groups for name in group}
    assert set(names.values()) - grouped == set(described["not_in_any_group"])


@pytest.mark.parametrize("case", marked(cases("deeplab_augment")))
def test_augmentation_for_given_draws(case: Case) -> None:
    stored = golden().Golden(case.path)
    script = read_json(case, "draws")
    mean, std = 255 * np.array(IMAGENET_DEFAULT_MEAN), 255 * np.array(IMAGENET_DEFAULT_STD)
    augmentation = ReleasedAugmentation(crop_size=script["crop"], scale=(0.5, 1.5), shift=10, fill=mean.tolist())
    for index, drawn in enumerate(script["draws"]):
        draws = Draws(
            hue=drawn["delta_h"],
            saturation=drawn["delta_s"],
            value=drawn["delta_v"],
            mirror=drawn["flip_draw"] < 0.5,
            zoom=drawn["scale"],
            top=drawn.get("img_top", 0) - drawn.get("cont_top", 0),
            left=drawn.get("img_left", 0) - drawn.get("cont_left", 0),
        )
        photo = shifted(stored.stored(f"image{index}"), draws.hue, draws.saturation, draws.value)
        assert_levels(photo, stored.stored(f"after_hsv{index}"))
        photo, mask = zoomed(photo, stored.stored(f"seg{index}"), draws)
        assert_levels(photo, stored.stored(f"after_scale_image{index}"))
        assert np.array_equal(mask, stored.stored(f"after_scale_seg{index}"))
        crop, labels = cropped(photo, mask, draws, augmentation)
        assert np.array_equal(labels, stored.stored(f"crop_seg{index}"))
        normalised = (crop - mean) / std
        name = f"crop_image{index}"
        difference = np.abs(stored.thin(name, normalised) - stored.stored(name))
        level = 1 / std.min()
        assert (difference <= level + 1e-4).mean() >= 0.99 and difference.max() <= 2 * level + 1e-4


def assert_levels(found: np.ndarray, expected: np.ndarray) -> None:
    """At most one grey level apart on 99 % of the values, two anywhere."""
    difference = np.abs(found.astype(int) - expected)
    assert (difference <= 1).mean() >= 0.99 and difference.max() <= 2, (difference <= 1).mean()
