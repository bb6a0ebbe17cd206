import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from tests.export.conftest import CLASSES
from weakclip.export.cvat import objects, write_cvat
from weakclip.export.masked_photos import MaskedPhoto
from weakclip.masks import PALETTE
from weakclip.regions import regions


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


def test_objects_are_the_regions_in_colours_of_the_palette(masked: list[MaskedPhoto], tmp_path: Path) -> None:
    # CVAT's reader looks for a number in the palette at every pixel; each but 0, the background, becomes a mask of a class.
    write_cvat(iter(masked), CLASSES, tmp_path / "photos", tmp_path / "masks.zip")
    _, classes = read_archive(tmp_path / "masks.zip")
    numbers = {tuple(colour): number for number, colour in enumerate(PALETTE.tolist())}
    with zipfile.ZipFile(tmp_path / "masks.zip") as archive:
        for photo, (name, mask) in zip(masked, classes.items(), strict=True):
            with Image.open(io.BytesIO(archive.read(f"SegmentationObject/{name}.png"))) as image:
                found = np.array([[numbers[tuple(pixel)] for pixel in row] for row in np.array(image).tolist()])
            assert np.array_equal(found > 0, mask > 0)
            wanted = regions(photo.mask)
            assert set(np.unique(found)) - {0} == set(range(1, 1 + len(wanted)))
            for number, region in enumerate(wanted, start=1):
                assert np.array_equal(found == number, region.in_photo(*mask.shape))
                assert set(mask[found == number]) == {region.class_index}


def test_more_regions_than_colours_are_one_object_a_class() -> None:
    speckles = np.zeros((32, 34), np.uint8)
    speckles[::2, ::2] = 1 + np.indices((16, 17)).sum(axis=0) % 2
    assert len(regions(speckles)) == 272 and np.array_equal(objects(speckles), speckles)
    assert objects(speckles[:30]).max() == 255


def test_the_same_masks_give_the_same_bytes(masked: list[MaskedPhoto], tmp_path: Path) -> None:
    for name in ("one.zip", "two.zip"):
        write_cvat(iter(masked), CLASSES, tmp_path / "photos", tmp_path / name)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
