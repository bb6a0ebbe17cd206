from pathlib import Path

import numpy as np
from torchvision.datasets import VOCSegmentation

from tests.export.conftest import CLASSES
from weakclip.export.masked_photos import MaskedPhoto
from weakclip.export.voc import write_voc


def test_torchvision_reads_photos_and_masks_pixel_by_pixel(masked: list[MaskedPhoto], tmp_path: Path) -> None:
    out = tmp_path / "voc"
    out.mkdir()
    assert write_voc(iter(masked), CLASSES, out) == {"train": 2, "val": 1, "trainval": 3}
    for split in ("train", "val", "trainval"):
        read = VOCSegmentation(str(out), year="2012", image_set=split)
        wanted = [photo for photo in masked if split in (photo.record.split, "trainval")]
        for photo, (image, mask) in zip(wanted, (read[index] for index in range(len(read))), strict=True):
            assert image.size == mask.size
            assert np.array_equal(np.array(mask), photo.mask)
    labelmap = (out / "VOCdevkit" / "VOC2012" / "labelmap.txt").read_text()
    assert labelmap.splitlines()[1:3] == ["background:0,0,0::", "cat:128,0,0::"]
    assert labelmap.splitlines()[-1] == "ignored:224,224,192::"  # for readers that look colours up, such as Datumaro
