"""Experiments in the queue, two at a time, on photos and weights of the user's own; their workers are killed, too.

DVC runs each in a copy of the project of its own, with the cache of this one.
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import pytest
import timm
from PIL import Image
from safetensors.torch import save_file

from stages import (
    cache_features,
    evaluate,
    generate_masks,
    prepare_dataset,
    refine_masks,
    retrain_deeplab,
    train_cam,
    train_weakclip,
)
from stages.cli import link_photos
from tests.conftest import TINY, Project, make_project
from weakclip.datasets.mini import MiniWorld

STAGES = (
    prepare_dataset,
    cache_features,
    train_cam,
    train_weakclip,
    generate_masks,
    refine_masks,
    retrain_deeplab,
    evaluate,
)
PHOTOS = 8
ENCODER = "test_resnet"
RESULTS = Path("data/results")
PATIENCE = 240  # seconds


def photographed(folder: Path) -> None:
    """A folder as a user has it, outside the project: photos, tags, classes, the weights of an encoder."""
    folder.mkdir()
    world, rows = MiniWorld(seed=3, side=64), ["image,tags"]
    names: set[str] = set()
    for number in range(PHOTOS):
        scene = world.scene("train", number)
        Image.fromarray(scene.image).save(folder / f"{number}.png")
        rows.append(f"{number},{';'.join(scene.tags)}")
        names |= {*scene.tags}
    (folder / "tags.csv").write_text("\n".join(rows))
    (folder / "classes.txt").write_text("\n".join(sorted(names)))
    save_file(timm.create_model(ENCODER, pretrained=False).state_dict(), folder / "encoder.safetensors")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project on such a folder, in which all stages have run."""
    home = tmp_path_factory.mktemp("queue")
    photographed(home / "photos")
    project = make_project(home / "project")
    shutil.copyfile(project.folder / "weakclip" / "presets" / "folder.yaml", project.folder / "params.yaml")
    own = {name: value for name, value in TINY.items() if not name.startswith("dataset.")}
    weights = {"deeplab.encoder": ENCODER, "deeplab.encoder_weights": "data/raw/photos/encoder.safetensors"}
    project.set({**own, **weights, "deeplab.iterations": 6})
    with contextlib.chdir(project.folder), pytest.MonkeyPatch.context() as patch:
        patch.setenv("WEAKCLIP_WORKERS", "1")
        patch.setenv("WEAKCLIP_DEVICE", "cpu")
        link_photos(home / "photos")
        for stage in STAGES:
            stage.main()
    project.dvc("commit", "--force", "--quiet")
    project.commit()
    return project
