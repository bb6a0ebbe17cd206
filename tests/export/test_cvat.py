import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from tests.export.conftest import CLASSES
from weakclip.export.cvat import write_cvat
from weakclip.export.masked_photos import MaskedPhoto


def read_archive(path: Path) -> tuple[list[str], dict[str, np.ndarray]]:
    """Labels, and masks by image name, as the format's description says."""
    with zipfile.ZipFile(path) as archive:
        rows = [line.split(":") for line in archive.read("labelmap.txt").decode().splitlines() if not line.startswith("#")]
        assert all(len(row) == 4 for row in rows)
        colours = {tuple(int(value) for value in row[1].split(",")): index for index, row in enumerate(rows)}
        masks = {}
        for name in archive.read("ImageSets/Segmentation/default.txt").decode().splitlines():
            with Image.open(io.BytesIO(archive.read(f"SegmentationClass/{name}.png"))) as image:
                pixels = np.array(image.convert("RGB"))
            masks[name] = np.array([[colours[tuple(pixel)] for pixel in row] for row in pixels.tolist()])
    return [row[0] for row in rows], masks


def test_colours_stand_for_the_classes_pixel_by_pixel(masked: list[MaskedPhoto], tmp_path: Path) -> None:
    assert write_cvat(iter(masked), CLASSES, tmp_path / "photos", tmp_path / "masks.zip") == {"images": 3}
    labels, masks = read_archive(tmp_path / "masks.zip")
    assert labels == ["background", "cat", "big dog", "bird"]
    assert list(masks) == ["a", "more/b", "more/c ü"]
    for photo, mask in zip(masked, masks.values(), strict=True):
        assert np.array_equal(mask, np.where(photo.mask == 255, 0, photo.mask))


def test_the_same_masks_give_the_same_bytes(masked: list[MaskedPhoto], tmp_path: Path) -> None:
    for name in ("one.zip", "two.zip"):
        write_cvat(iter(masked), CLASSES, tmp_path / "photos", tmp_path / name)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
