"""The recipes of a benchmark: what the published one changes, that it holds the paper's values, and that its stages take it."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stages.train_weakclip import check_variant
from tests.conftest import ROOT, change_params
from weakclip.errors import WeakClipError
from weakclip.params import Params, load, names

PRESETS = ROOT / "weakclip" / "presets"
DATASETS = ("voc12", "coco14")

# What the released code does otherwise than `repaired`; every other value is the same in both.
SEEDS = {"cam.source", "cam.import_folder", "cam.scales", "cam.flip"}
METHOD = {
    *("weakclip.variant", "weakclip.loss_size", "weakclip.held_out_share", "weakclip.micro_batches"),
    *("masks.tag_filter", "crf.tag_limited"),
}
RETRAINING = {"network", "encoder", "encoder_weights", "output_stride", "lr", "weight_decay", "colour"}
CHANGED = SEEDS | METHOD | {f"deeplab.{name}" for name in RETRAINING} | {"evaluate.crf.iterations"}

# The released configuration, command line and post-processing scripts.
PAPER: dict[str, Any] = {
    "lr": 1e-4,
    "clip.model": "ViT-B-16-quickgelu",
    "clip.weights": "openai",
    "clip.blocks": (3, 5, 7, 11),
    "clip.image_size": 512,
    "features.scale": (0.5, 2.0),
    "cam.source": "import",
    "weakclip.variant": "published",
    "weakclip.warmup": 1500,
    "weakclip.weight_decay": 3e-5,
    "weakclip.context_length": 8,
    "weakclip.decoder_width": 256,
    "weakclip.decoder_layers": 3,
    "weakclip.decoder_heads": 4,
    "weakclip.channels": 256,
    "weakclip.score_map_weight": 0.4,
    "weakclip.score_map_temperature": 0.07,
    "weakclip.boundary_weight": 1.0,
    "weakclip.boundary_crf": (3, 3, 80, 13, 10, 10),
    "weakclip.loss_size": 64,
    "weakclip.held_out_share": 0.0,
    "masks.scales": (0.5, 0.75, 1.0, 1.25, 1.5, 1.75),
    "masks.flip": True,
    "masks.stride": 341,
    "masks.tag_filter": False,
    "masks.base_size": (2048, 512),
    "crf.tag_limited": False,
    "deeplab.network": "deeplabv1_resnet38",
    "deeplab.masks": "refined",
    "deeplab.output_stride": 8,
    "deeplab.iterations": 40000,
    "deeplab.batch_size": 16,
    "deeplab.lr": 0.05,
    "deeplab.encoder_lr_factor": 0.1,
    "deeplab.weight_decay": 5e-4,
    "deeplab.crop_size": 448,
    "deeplab.scale": (0.5, 1.5),
    "deeplab.colour": 0.1,
    "evaluate.scales": (0.5, 0.75, 1.0, 1.25, 1.5),
    "evaluate.flip": True,
}
PAPER_OF: dict[str, dict[str, Any]] = {
    "voc12": {
        "weakclip.iterations": 20000,
        "weakclip.batch_size": 16,
        "crf": (3, 3, 83, 5, 3, 10),
        "evaluate.crf": (1, 3, 112, 2, 3, 10),
    },
    "coco14": {
        "weakclip.iterations": 40000,
        "weakclip.batch_size": 24,
        "crf": (1, 3, 67, 3, 4, 10),
        "evaluate.crf": (1, 3, 67, 3, 4, 10),
    },
}
CRF = ("gaussian_sxy", "gaussian_compat", "bilateral_sxy", "bilateral_srgb", "bilateral_compat", "iterations")


def value(params: Params, name: str) -> Any:
    """A value by its dotted name; of a dense CRF its kernels and iterations."""
    found: Any = params
    for part in name.split("."):
        found = getattr(found, part)
    return tuple(getattr(found, part) for part in CRF) if hasattr(found, CRF[0]) else found


def published(dataset: str) -> Path:
    return PRESETS / "published" / f"{dataset}.yaml"


@pytest.mark.parametrize("dataset", DATASETS)
def test_recipes_of_a_dataset_differ_in_the_named_values_only(dataset: str) -> None:
    ours, theirs = load(PRESETS / f"{dataset}.yaml"), load(published(dataset))
    more = {"deeplab.iterations"} if dataset == "voc12" else set()
    assert {name for name in names() if value(ours, name) != value(theirs, name)} == CHANGED | more


def test_the_walk_through_lists_what_the_recipes_differ_in() -> None:
    text = (ROOT / "docs" / "reproduce.md").read_text(encoding="utf-8")
    table = text.split("| | repaired | published |")[1].split("\n\n")[0]
    listed = re.findall(r"`([a-z_]+\.[a-z_.]+)`", table)
    assert sorted(listed) == sorted(CHANGED | {"deeplab.iterations"})


def test_what_the_datasets_differ_in_is_the_same_in_both_recipes() -> None:
    def differing(folder: Path) -> set[str]:
        voc, coco = (load(folder / f"{dataset}.yaml") for dataset in DATASETS)
        return {name for name in names() if value(voc, name) != value(coco, name)}

    assert differing(PRESETS) - differing(PRESETS / "published") == {"deeplab.iterations"}
    assert differing(PRESETS / "published") <= differing(PRESETS)


@pytest.mark.parametrize("dataset", DATASETS)
def test_the_published_recipe_holds_the_values_of_the_paper(dataset: str) -> None:
    params = load(published(dataset))
    wanted = PAPER | PAPER_OF[dataset]
    assert {name: value(params, name) for name in wanted} == wanted


def store_of(params: Params) -> Any:
    """Of the features that these parameters ask for, what the check of the variant looks at."""
    return SimpleNamespace(attributes={"crop_views": params.features.views})


@pytest.mark.parametrize("dataset", DATASETS)
def test_the_published_recipe_is_what_the_published_variant_asks_for(dataset: str) -> None:
    params = load(published(dataset))
    check_variant(params, store_of(params))


@pytest.mark.parametrize(
    "change",
    [{"features.views": 1}, {"weakclip.token_crop": 0.5}, {"weakclip.pyramid_adapter": False}, {"weakclip.recompute": True}],
    ids=str,
)
def test_the_published_recipe_with_what_its_variant_does_not_have_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(published("voc12").read_bytes())
    change_params(path, change)
    params = load(path)
    with pytest.raises(WeakClipError, match="published"):
        check_variant(params, store_of(params))
