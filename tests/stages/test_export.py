"""`weakclip export` as a user types it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from stages.cli import app
from stages.export import FORMATS
from tests.conftest import ROOT
from tests.export.conftest import dataset, masked  # noqa: F401
from weakclip.datasets.coco_classes import CLASSES
from weakclip.datasets.index import Dataset, write_dataset
from weakclip.errors import WeakClipError
from weakclip.export.masked_photos import MaskedPhoto
from weakclip.masks import write_mask
from weakclip.scores import ScoreWriter

REFINED = Path("data/masks/refined")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: Dataset, masked: list[MaskedPhoto]) -> None:  # noqa: F811
    """A project with masks of the two training images."""
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setenv("WEAKCLIP_WORKERS", "1")
    write_dataset(dataset, Path("data/dataset"))
    REFINED.mkdir(parents=True)
    for photo in masked[:2]:
        write_mask(REFINED / f"{photo.record.image_id}.png", photo.mask)
    Path("params.yaml").write_bytes((ROOT / "weakclip" / "presets" / "mini.yaml").read_bytes())


def export(format_name: str, out: str, *options: str) -> str:
    command = ["export", "--format", format_name, "--out", out, *options]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


@pytest.mark.parametrize("format_name", list(FORMATS))
def test_every_format_is_written_whole_and_said(format_name: str, tmp_path: Path) -> None:
    out = f"out{FORMATS[format_name].ending}"
    said = export(format_name, out)
    assert f"to {out}\n" in said and "1 of the 3 images have no mask in data/masks/refined: 1 of val" in said
    assert {path.name for path in Path().iterdir()} == {"data", "params.yaml", out}
    with pytest.raises(WeakClipError, match="is there already"):
        export(format_name, out)


def test_wrong_commands_are_refused_and_leave_nothing() -> None:
    with pytest.raises(WeakClipError, match="'coc' is not a format"):
        export("coc", "out")
    with pytest.raises(WeakClipError, match=r"out does not end in \.json"):
        export("coco", "out")
    with pytest.raises(WeakClipError, match="holds no mask of the 3 images"):
        export("coco", "out.json", "--masks", "data/masks")
    write_mask(REFINED / "a.png", np.full((40, 56), 4, np.uint8))
    with pytest.raises(WeakClipError, match=r"a\.png holds the class index 4; there are 0 to 3, and 255"):
        export("yolo", "out")
    write_mask(REFINED / "a.png", np.zeros((3, 4), np.uint8))
    with pytest.raises(WeakClipError, match=r"a\.png is 4 x 3 pixels, the photo 56 x 40"):
        export("coco", "out.json")
    assert {path.name for path in Path().iterdir()} == {"data", "params.yaml"}


def test_masks_of_a_prediction_are_those_beside_its_index(dataset: Dataset) -> None:  # noqa: F811
    write_dataset(dataset, Path("predicted"))  # the same ids as of data/masks/refined
    Path("predicted/masks").mkdir()
    for record in dataset.records:
        write_mask(Path("predicted/masks") / f"{record.image_id}.png", np.full((record.height, record.width), 2, np.uint8))
    export("coco", "predicted.json", "--dataset", "predicted")
    document = json.loads(Path("predicted.json").read_text())
    assert [row["category_id"] for row in document["annotations"]] == [2, 2, 2]


def test_a_coco_dataset_keeps_cocos_numbers(dataset: Dataset) -> None:  # noqa: F811
    records = tuple(replace(record, image_id=f"{7 * number:012d}") for number, record in enumerate(dataset.records, start=1))
    write_dataset(replace(dataset, name="coco14", classes=CLASSES, records=records), Path("data/dataset"))
    for record in records:
        write_mask(REFINED / f"{record.image_id}.png", np.full((record.height, record.width), 12, np.uint8))
    export("coco", "coco.json")
    document = json.loads(Path("coco.json").read_text())
    assert [image["id"] for image in document["images"]] == [7, 14, 21]
    assert {(row["image_id"], row["category_id"]) for row in document["annotations"]} == {(7, 13), (14, 13), (21, 13)}


def test_confidence_is_that_of_the_crf(dataset: Dataset) -> None:  # noqa: F811
    from stages._kernels import mask_kernel
    from weakclip.crf import dense_crf
    from weakclip.images import read_photo
    from weakclip.params import load

    kernel = mask_kernel(load(Path("params.yaml")).crf)
    records = dataset.training
    writer = ScoreWriter(Path("data/masks/scores"), [record.image_id for record in records], {})
    unsure = {}
    for record in records:
        cat = np.linspace(0, 1, record.width)[None].repeat(record.height, axis=0)
        scores = np.stack([1 - cat, cat]).astype(np.float16)
        writer.write(record.image_id, [0, 1], scores)
        sharpened = dense_crf(read_photo(record.photo), scores, kernel)
        write_mask(REFINED / f"{record.image_id}.png", (sharpened[1] > sharpened[0]).astype(np.uint8))
        unsure[record.image_id] = int((sharpened[1] >= 0.9).sum())
    writer.finish()
    export("coco", "sure.json", "--confidence", "0.9")
    area = sum(row["area"] for row in json.loads(Path("sure.json").read_text())["annotations"])
    assert area == sum(unsure.values()) > 0
    export("coco", "all.json")
    assert area < sum(row["area"] for row in json.loads(Path("all.json").read_text())["annotations"])
    write_mask(REFINED / "b.png", np.zeros((48, 40), np.uint8))
    with pytest.raises(WeakClipError, match=r"b\.png is not what crf in params.yaml makes"):
        export("coco", "other.json", "--confidence", "0.9")
    write_mask(REFINED / "c ü.png", np.zeros((36, 36), np.uint8))
    with pytest.raises(WeakClipError, match="has no class scores of 1 of the 3 masks in data/masks/refined, first c ü"):
        export("coco", "other.json", "--confidence", "0.9")
    with pytest.raises(WeakClipError, match="--confidence is 2"):
        export("coco", "other.json", "--confidence", "2")
