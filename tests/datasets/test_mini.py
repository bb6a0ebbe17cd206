"""The drawn world, in memory and on the disk."""

from __future__ import annotations

import hashlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from weakclip.datasets.index import Dataset
from weakclip.datasets.mini import BACKGROUND_WORDS, CLASS_NAMES, CONTEXT, DISTRACTORS, MiniWorld, caption
from weakclip.datasets.mini_dataset import draw_mini_dataset
from weakclip.images import read_photo
from weakclip.masks import read_mask


def scene_digest(seed: int, stream: str, index: int) -> str:
    scene = MiniWorld(seed=seed).scene(stream, index)
    return hashlib.sha256(scene.image.tobytes() + scene.mask.tobytes()).hexdigest()


def draw(folder: Path, *, world: int = 0, train: int = 5, val: int = 3) -> Dataset:
    return draw_mini_dataset(folder, final=Path("data/dataset"), mini_world=world, mini_train=train, mini_val=val)


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.*"))}


def test_a_scene_is_an_image_with_its_mask() -> None:
    scene = MiniWorld(seed=0).scene("train", 0)
    assert scene.image.shape == (128, 128, 3) and scene.image.dtype == np.uint8
    assert scene.mask.shape == (128, 128) and scene.mask.dtype == np.uint8


def test_a_scene_depends_on_seed_stream_and_index_alone() -> None:
    keys = [(0, "train", 0), (1, "train", 0), (0, "val", 0), (0, "train", 1)]
    digests = [scene_digest(*key) for key in keys]
    assert len(set(digests)) == 4
    assert [scene_digest(*key) for key in keys] == digests


def test_tags_are_the_classes_in_the_mask() -> None:
    for index in range(25):
        scene = MiniWorld(seed=3).scene("train", index)
        present = [CLASS_NAMES[value - 1] for value in np.unique(scene.mask) if value]
        assert list(scene.tags) == present
        assert 1 <= len(present) <= 3
        assert set(scene.grounds + scene.distractors) <= set(BACKGROUND_WORDS)


def test_contexts_come_with_their_class() -> None:
    world = MiniWorld(seed=5, side=32)
    scenes = [world.scene("train", index) for index in range(150)]
    for name, ground in CONTEXT.items():
        # Where a scene has two classes with a context, one of them must do without.
        others = set(CONTEXT) - {name}
        alone = [scene for scene in scenes if name in scene.tags and not others & set(scene.tags)]
        assert len(alone) >= 8
        assert np.mean([ground in scene.grounds for scene in alone]) > 0.6


def test_no_background_word_is_a_class() -> None:
    assert not set(BACKGROUND_WORDS) & set(CLASS_NAMES)
    assert set(DISTRACTORS) < set(BACKGROUND_WORDS)


def test_a_caption_names_all_that_is_seen() -> None:
    scene = MiniWorld(seed=0).scene("train", 4)
    text = caption(scene, np.random.default_rng(0))
    assert all(word in text for word in scene.words)


def test_the_dataset_is_named_and_sorted_by_split_and_index(tmp_path: Path) -> None:
    dataset = draw(tmp_path)
    assert [record.image_id for record in dataset.training] == [f"train_{index:05d}" for index in range(5)]
    assert [record.image_id for record in dataset.val] == ["val_00000", "val_00001", "val_00002"]
    assert dataset.classes.names == CLASS_NAMES and dataset.classes.background_words == BACKGROUND_WORDS
    assert len(dataset.labelled("train")) == 5 and len(dataset.labelled("val")) == 3


def test_records_name_the_files_at_their_final_place(tmp_path: Path) -> None:
    record = draw(tmp_path).records[0]
    assert record.photo == "data/dataset/images/train_00000.jpg"
    assert record.mask == "data/dataset/masks/train_00000.png"


def test_photos_and_masks_are_those_of_the_scenes(tmp_path: Path) -> None:
    record = draw(tmp_path).val[1]
    scene = MiniWorld(seed=0).scene("val", 1)
    photo = read_photo(tmp_path / "images" / "val_00001.jpg")
    assert photo.shape == (record.height, record.width, 3) == scene.image.shape
    encoded = BytesIO()
    Image.fromarray(scene.image).save(encoded, format="JPEG", quality=95, subsampling=0)
    np.testing.assert_array_equal(photo, np.asarray(Image.open(encoded)))
    np.testing.assert_array_equal(read_mask(tmp_path / "masks" / "val_00001.png"), scene.mask)
    assert [CLASS_NAMES[tag - 1] for tag in record.tags] == list(scene.tags)


def test_the_number_of_processes_changes_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = []
    for workers in ("1", "2"):
        monkeypatch.setenv("WEAKCLIP_WORKERS", workers)
        records.append(draw(tmp_path / workers, train=24, val=2))
    assert records[0] == records[1]
    assert content(tmp_path / "1") == content(tmp_path / "2")
    assert len(content(tmp_path / "1")) == 52


def test_another_world_has_other_images_and_more_images_leave_the_first_alone(tmp_path: Path) -> None:
    draw(tmp_path / "a", train=2, val=1)
    draw(tmp_path / "b", train=3, val=1)
    draw(tmp_path / "c", world=1, train=2, val=1)
    first, longer, other = (content(tmp_path / name) for name in "abc")
    assert first.items() < longer.items()
    assert not set(first.values()) & set(other.values())
