"""The first stage as DVC runs it."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from ruamel.yaml import YAML

from stages.prepare_dataset import main
from weakclip.datasets.index import read_dataset
from weakclip.errors import WeakClipError
from weakclip.images import read_photo_size
from weakclip.masks import read_mask

ROOT = Path(__file__).parents[2]
METRICS = Path("data/results/prepare_dataset/metrics.json")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes the working folder a project; call it with the values of its dataset section."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WEAKCLIP_WORKERS", "1")

    def write(**values: object) -> None:
        yaml = YAML(typ="safe", pure=True)
        params = yaml.load((ROOT / "weakclip/presets/mini.yaml").read_text())
        params["dataset"] |= {"mini_train": 6, "mini_val": 2} | values
        with Path("params.yaml").open("w") as file:
            yaml.dump(params, file)

    write()
    return write


def photos(root: Path) -> None:
    (root / "images").mkdir(parents=True)
    for name in "abcd":
        Image.new("RGB", (20, 16), "teal").save(root / "images" / f"{name}.jpg")
    (root / "classes.txt").write_text("cat\ndog\n")
    (root / "tags.csv").write_text("image,tags\na,cat\nb,dog;cat\nc,dog\nd,dog\n")
    (root / "splits").mkdir()
    (root / "splits" / "train.txt").write_text("a\nb\nc\n")
    (root / "splits" / "val.txt").write_text("d\n")


def figures() -> dict[str, object]:
    found: dict[str, object] = json.loads(METRICS.read_text())["dataset"]
    return found


def content(folder: str) -> dict[str, bytes]:
    return {path.as_posix(): path.read_bytes() for path in sorted(Path(folder).rglob("*.*")) if path.is_file()}


def test_the_mini_dataset_is_drawn_and_counted(project: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    main()
    dataset = read_dataset(Path("data/dataset"))
    assert len(dataset.records) == 8
    for record in dataset.records:
        assert read_photo_size(record.photo) == (record.height, record.width)
        assert record.mask is not None and read_mask(record.mask).shape == (record.height, record.width)
    found = figures()
    assert list(found) == ["images", "train", "val", "skipped", "tags"]
    assert (found["images"], found["train"], found["val"], found["skipped"]) == (8, 6, 2, 0)
    assert found["tags"] == {
        name: sum(1 + position in record.tags for record in dataset.training)
        for position, name in enumerate(dataset.classes.names)
    }
    closing = r"  mini: 8 images of 10 classes \(6 train, 2 val, 0 skipped\)   wrote data/dataset \([\d.]+ kB\)\n"
    assert re.fullmatch(closing, capsys.readouterr().out)


def test_a_second_run_gives_the_same_bytes_and_leaves_no_slot(project: Callable[..., None]) -> None:
    main()
    first = content("data")
    main()
    assert content("data") == first
    assert not any(path.is_file() for path in Path(".resume").rglob("*"))


def test_what_a_killed_run_left_does_not_get_into_the_dataset(
    project: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("stages.prepare_dataset.write_dataset", interrupted)
        main()
    assert not Path("data/dataset").exists()
    leftover = next(Path(".resume").rglob("images"))
    (leftover / "stray.jpg").write_bytes(b"half")
    main()
    assert len(list(Path("data/dataset/images").iterdir())) == 8


def test_an_old_dataset_stays_when_the_new_one_is_refused(project: Callable[..., None]) -> None:
    main()
    first = content("data")
    project(name="folder")
    with pytest.raises(WeakClipError):
        main()
    assert content("data") == first


def test_a_folder_of_photos_is_indexed_where_it_is(project: Callable[..., None], tmp_path: Path) -> None:
    project(name="folder")
    photos(tmp_path / "my photos")
    Path("data/raw").mkdir(parents=True)
    Path("data/raw/photos").symlink_to(tmp_path / "my photos", target_is_directory=True)
    main()
    record = read_dataset(Path("data/dataset")).records[0]
    assert record.photo == "data/raw/photos/images/a.jpg"
    assert figures() == {"images": 4, "train": 3, "val": 1, "skipped": 0, "tags": {"cat": 2, "dog": 2}}
    assert sorted(path.name for path in Path("data/dataset").iterdir()) == ["dataset.json", "images.csv", "skipped.csv"]


def test_skipped_photos_are_listed_counted_and_told(project: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    project(name="folder", on_error="skip")
    photos(Path("data/raw"))
    Path("data/raw/images/a.jpg").write_bytes(b"")
    Image.new("RGB", (20, 16)).save("data/raw/images/e.jpg")
    main()
    assert (figures()["train"], figures()["skipped"]) == (2, 1)
    with Path("data/dataset/skipped.csv").open() as file:
        assert list(csv.DictReader(file)) == [
            {"file": "data/raw/images/a.jpg", "reason": "data/raw/images/a.jpg is empty (0 bytes)"}
        ]
    note, skipped, closing = capsys.readouterr().out.splitlines()
    assert note == "  note: photos that are in no split and left out: 1"
    assert skipped == "  skipped: data/raw/images/a.jpg is empty (0 bytes)"
    assert closing.startswith("  folder: 3 images of 2 classes (2 train, 1 val, 1 skipped)   wrote data/dataset (")


def test_the_command_prints_two_lines_for_a_photo_it_cannot_use(project: Callable[..., None]) -> None:
    project(name="folder")
    photos(Path("data/raw"))
    Path("data/raw/images/a.jpg").write_bytes(b"")
    result = subprocess.run(
        [sys.executable, "-W", "error", "-m", "stages.prepare_dataset"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    first, second = result.stderr.splitlines()
    assert first == "error: data/raw/images/a.jpg is empty (0 bytes)"
    assert second.startswith("hint: ") and "dataset.on_error" in second


def test_the_stage_needs_no_torch() -> None:
    code = "import sys, stages.prepare_dataset; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_coco_masks_are_rendered_into_the_dataset(project: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    project(name="coco14", tags_from="json")
    for split, number, category in (("train", 9, 18), ("val", 42, 13)):
        folder = Path("data/raw/photos", f"{split}2014")
        folder.mkdir(parents=True)
        name = f"COCO_{split}2014_{number:012d}.jpg"
        Image.new("RGB", (10, 8), "teal").save(folder / name)
        document = {
            "images": [{"id": number, "file_name": name, "height": 8, "width": 10}],
            "categories": [{"id": category, "name": {18: "dog", 13: "stop sign"}[category]}],
            "annotations": [
                {"image_id": number, "category_id": category, "segmentation": {"size": [8, 10], "counts": [0, 40, 40]}}
            ],
        }
        Path("data/raw/photos/annotations").mkdir(exist_ok=True)
        Path("data/raw/photos/annotations", f"instances_{split}2014.json").write_text(json.dumps(document))
    main()
    closing = "  coco14: 2 images of 80 classes (1 train, 1 val, 0 skipped)   wrote data/dataset ("
    assert capsys.readouterr().out.startswith(closing)
    train, val = read_dataset(Path("data/dataset")).records
    assert (train.tags, val.tags) == ((17,), (12,))
    assert train.mask is not None and read_mask(train.mask).tolist() == [[17] * 5 + [0] * 5] * 8
    before = content("data/dataset")
    main()
    assert content("data/dataset") == before
