"""Damaged artefacts are named, or make no difference."""

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.faults.damages import READ, Cut, Damage, Flip, losses, losses_of_resumed
from tests.faults.events import Death
from tests.faults.world import World
from weakclip.datasets.index import ClassList, Dataset, Record, read_dataset, write_dataset
from weakclip.errors import WeakClipError
from weakclip.features.index import ShardFolder
from weakclip.journal import Journal, journalled
from weakclip.masks import read_mask, write_mask
from weakclip.runlog import read_metrics, write_metrics
from weakclip.scores import ScoreStore, ScoreWriter
from weakclip.training import load_checkpoint, save_checkpoint
from weakclip.weights import load_weights, save_weights

CASES = [(stage, pattern) for stage, patterns in READ.items() for pattern in patterns]


@pytest.mark.parametrize(
    ("stage", "pattern", "damage"),
    [
        ("cache_features", "data/dataset/images/train_*.jpg", Flip(0.6)),
        ("train_cam", "data/features/*.h5", Flip(0.5)),
        ("train_weakclip", "data/cam/seeds/*.png", Flip(0.8)),
        ("generate_masks", "data/weakclip/*.safetensors", Flip(0.9)),
        ("refine_masks", "data/masks/scores/*.h5", Cut(0.7)),
        ("retrain_deeplab", "data/dataset/*.csv", Flip(0.3)),
        ("evaluate", "data/results/refine_masks/metrics.json", Flip(0.2)),
    ],
)
def test_a_stage_names_what_is_damaged(world: World, stage: str, pattern: str, damage: Damage) -> None:
    path = sorted(world.folder.glob(pattern))[0]
    assert losses(world, stage, path, damage) == []


@pytest.mark.parametrize(
    ("stage", "pattern", "event"),
    [
        ("cache_features", "features/*.part", 60),
        ("train_weakclip", "state.pt", 45),
        ("refine_masks", "gated/*.png", 60),
        ("evaluate", "predictions.jsonl", 20),
    ],
)
def test_a_stage_does_not_go_on_from_damage(world: World, stage: str, pattern: str, event: int) -> None:
    draw = random.Random(stage)
    assert losses_of_resumed(world, stage, pattern, Death(event=event), Flip(0.5), draw) == []


def every_flip(content: bytes, step: int = 1) -> list[bytes]:
    """The content with one bit of each byte, or of every few, another one."""
    return [Flip((place + 0.125 * (place % 8)) / len(content))(content) for place in range(0, len(content), step)]


def every_cut(content: bytes, step: int = 1) -> list[bytes]:
    return [content[:length] for length in range(0, len(content), step)]


def damaged_reads(path: Path, read: object, whole: object, damaged: list[bytes], names: str) -> int:
    """Read a file after each damage: refused by its name, or the same as from the whole file. Returns how many are refused."""
    content, refused = path.read_bytes(), 0
    for variant in damaged:
        path.write_bytes(variant)
        try:
            assert read() == whole  # type: ignore[operator]
        except WeakClipError as error:
            assert names in error.problem and "\n" not in error.problem
            refused += 1
    path.write_bytes(content)
    return refused


def make_scores(folder: Path) -> None:
    draw = np.random.default_rng(0)
    writer = ScoreWriter(folder, ["a", "b"], {"kind": "test"})
    for image_id in ("a", "b"):
        writer.write(image_id, [0, 2], draw.random((2, 4, 5)))
    writer.finish()


def scores(folder: Path) -> object:
    store = ScoreStore(folder)
    return store.attributes, [(classes.tolist(), maps.tolist()) for classes, maps in map(store.read, ("a", "b"))]


def test_every_byte_of_a_shard(tmp_path: Path) -> None:
    make_scores(tmp_path)
    path = tmp_path / "shard-00000.h5"
    content = path.read_bytes()
    read, whole = (lambda: scores(tmp_path)), scores(tmp_path)
    refused = damaged_reads(path, read, whole, every_flip(content), "shard-00000.h5")
    assert refused > len(content) / 4  # the rest of so small a file is HDF5's reserve
    start = content.index(ShardFolder(tmp_path, "").read(1)["probabilities"].tobytes())
    path.write_bytes(content[: start + 7] + bytes([content[start + 7] ^ 1]) + content[start + 8 :])
    with pytest.raises(WeakClipError, match=r'shard-00000\.h5 is damaged: row 1 \{"image_id": "b"'):
        scores(tmp_path)
    path.write_bytes(content)
    assert damaged_reads(path, read, whole, every_cut(content, 7), "shard-00000.h5") == len(every_cut(content, 7))


def test_every_byte_of_a_shard_index(tmp_path: Path) -> None:
    make_scores(tmp_path)
    path = tmp_path / "index.json"
    content = path.read_bytes()
    damaged = every_flip(content) + every_cut(content[:-1])
    refused = damaged_reads(path, lambda: scores(tmp_path), scores(tmp_path), damaged, "")
    assert refused > 0.9 * len(damaged)  # the rest turns white space into other white space


@pytest.mark.parametrize("file", ["dataset.json", "images.csv"])
def test_every_byte_of_a_dataset_index(tmp_path: Path, file: str) -> None:
    photo, mask = Path("a.jpg"), Path("a.png")
    record = Record(image_id="a", photo=str(photo), height=30, width=40, split="train", tags=(1,), mask=str(mask), crc32=7)
    records = (record, replace(record, image_id="b", tags=(1, 2)))
    classes = ClassList(names=("cat", "dog"), synonyms=((), ("hound",)), background_words=("grass",))
    dataset = Dataset(name="folder", classes=classes, records=records)
    write_dataset(dataset, tmp_path)
    content = (tmp_path / file).read_bytes()
    damaged = every_flip(content) + every_cut(content[:-1])
    refused = damaged_reads(tmp_path / file, lambda: read_dataset(tmp_path), dataset, damaged, file)
    assert refused == len(damaged) if file == "images.csv" else refused > 0.9 * len(damaged)


def test_every_byte_of_weights_and_their_card(tmp_path: Path) -> None:
    save_weights(tmp_path, "net", {"a": torch.arange(6.0)}, {"kind": "test", "classes": ["cat"]})

    def read() -> object:
        state, card = load_weights(tmp_path, "net")
        return {name: tensor.tolist() for name, tensor in state.items()}, card

    for file in ("net.safetensors", "net.json"):
        content = (tmp_path / file).read_bytes()
        damaged = every_flip(content) + every_cut(content[:-1])
        refused = damaged_reads(tmp_path / file, read, read(), damaged, file)
        assert refused == len(damaged) if file == "net.safetensors" else refused > 0.8 * len(damaged)


def test_every_byte_of_a_metrics_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    write_metrics(path, {"seed": {"miou": 55.31, "n": 12, "scales": [1.0]}})
    content = path.read_bytes()
    damaged = every_flip(content) + every_cut(content[:-1])
    whole = read_metrics(path, "train_cam")
    assert damaged_reads(path, lambda: read_metrics(path, "train_cam"), whole, damaged, "metrics.json") > 0.7 * len(damaged)


def test_every_byte_of_a_mask(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    write_mask(path, np.tile(np.arange(8, dtype=np.uint8), (8, 1)))
    content = path.read_bytes()
    damaged = every_flip(content) + every_cut(content)
    whole = read_mask(path).tolist()
    assert damaged_reads(path, lambda: read_mask(path).tolist(), whole, damaged, "mask.png") == len(damaged)


def test_every_byte_of_a_journal(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    journal = Journal(path)
    rows = {"a": {"confidence": 0.25}, "b": {"confidence": 0.75}}
    for image_id, row in rows.items():
        journal.append(image_id, row)
    content = path.read_bytes()
    for damaged in every_flip(content) + every_cut(content[:-1]):
        path.write_bytes(damaged)
        left = dict(journalled(path))
        assert Journal(path).finished == left.keys()
        assert len(left) < 2 and left.items() <= rows.items()


def test_every_few_bytes_of_a_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    layer = nn.Linear(3, 2)
    save_checkpoint(path, 5, {"layer": layer}, torch.optim.AdamW(layer.parameters()))
    whole = json.dumps([5, layer.weight.tolist()])

    def read() -> str:
        other = nn.Linear(3, 2)
        step = load_checkpoint(path, {"layer": other}, torch.optim.AdamW(other.parameters()))
        return json.dumps([step, other.weight.tolist()])

    content = path.read_bytes()
    refused = damaged_reads(path, read, whole, every_flip(content, 5) + every_cut(content, 50), "state.pt")
    assert refused > 0.5 * len(content) / 5  # the rest is padding


def test_a_stage_reads_nothing_else(world: World) -> None:
    assert all(sorted(world.folder.glob(pattern)) for _, pattern in CASES)
