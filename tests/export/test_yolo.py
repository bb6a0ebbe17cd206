from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as run_lengths
from ruamel.yaml import YAML

from tests.export.conftest import CLASSES
from weakclip.export.masked_photos import MaskedPhoto
from weakclip.export.yolo import write_yolo

# pycocotools 2.0.11 decodes masks in a way that numpy 2 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def read_labels(path: Path, height: int, width: int) -> np.ndarray:
    """The mask that a label file tells: ``<class> <x1> <y1> ...``, shares of width and height."""
    mask = np.zeros((height, width), np.uint8)
    for line in path.read_text().splitlines():
        index, *numbers = line.split(" ")
        shares = np.array([float(number) for number in numbers]).reshape(-1, 2)
        assert len(shares) >= 3 and shares.min() >= 0 and shares.max() <= 1
        flat = (shares * [width, height]).ravel().tolist()
        mask[run_lengths.decode(run_lengths.frPyObjects([flat], height, width))[..., 0] > 0] = 1 + int(index)
    return mask


def test_labels_lie_beside_upright_photos_and_tell_the_masks(masked: list[MaskedPhoto], tmp_path: Path) -> None:
    out = tmp_path / "yolo"
    out.mkdir()
    assert write_yolo(iter(masked), CLASSES, out) == {"train": 2, "val": 1}
    description = YAML(typ="safe").load((out / "data.yaml").read_text(encoding="utf-8"))
    assert description == {"train": "images/train", "val": "images/val", "names": {0: "cat", 1: "big dog", 2: "bird"}}
    for photo in masked:
        folder = description[photo.record.split]
        image = out / folder / f"{photo.record.image_id}.jpg"
        labels = Path(str(image).replace("/images/", "/labels/")).with_suffix(".txt")
        with Image.open(image) as opened:
            assert opened.size == (photo.record.width, photo.record.height)
            assert opened.getexif().get(274, 1) == 1
        found = read_labels(labels, *photo.mask.shape)
        for index in (1, 2, 3):
            union = ((found == index) | (photo.mask == index)).sum()
            assert not union or ((found == index) & (photo.mask == index)).sum() / union > 0.93
    assert (out / "images" / "train" / "a.jpg").read_bytes() == Path(masked[0].record.photo).read_bytes()
    assert (out / "labels" / "val" / "c ü.txt").read_text() == ""


def test_a_split_without_masks_is_said_to_be_the_other(masked: list[MaskedPhoto], tmp_path: Path) -> None:
    out = tmp_path / "yolo"
    out.mkdir()
    write_yolo(iter(masked[:1]), CLASSES, out)
    text = (out / "data.yaml").read_text()
    assert YAML(typ="safe").load(text)["val"] == "images/train"
    assert "no masks of val" in text
