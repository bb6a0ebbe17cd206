from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from weakclip.crf import CrfKernel
from weakclip.datasets.index import Record
from weakclip.deeplab.postprocessing import sharpen_winners
from weakclip.images import read_photo
from weakclip.masks import read_mask
from weakclip.seeding import rng
from weakclip.validation import mean, predict_masks

KERNEL = CrfKernel(gaussian_sxy=1, gaussian_compat=3, bilateral_sxy=5, bilateral_srgb=8, bilateral_compat=4, iterations=3)


def records_in(folder: Path) -> list[Record]:
    for name, grey in (("a", 0), ("b", 200)):
        Image.new("RGB", (12, 9), (grey, grey, grey)).save(folder / f"{name}.png")
    size = {"height": 9, "width": 12}
    return [Record(image_id=name, photo=str(folder / f"{name}.png"), split="val", tags=(), mask=None, **size) for name in "ab"]


def bright(photo: NDArray[np.uint8]) -> NDArray[np.float32]:
    share = photo[:, :, 0].astype(np.float32) / 250
    return np.stack([1 - share, share])


def test_winners_are_written_with_their_confidence(tmp_path: Path) -> None:
    confidence = predict_masks(records_in(tmp_path), bright, tmp_path / "out", tmp_path / "journal")
    assert confidence == pytest.approx({"a": 1.0, "b": 0.8})
    assert read_mask(tmp_path / "out/b.png").tolist() == [[1] * 12] * 9
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "b.png"]


def test_finished_images_are_not_predicted_again(tmp_path: Path) -> None:
    records = records_in(tmp_path)
    predict_masks(records[:1], bright, tmp_path / "out", tmp_path / "journal")
    seen = []

    def counted(photo: NDArray[np.uint8]) -> NDArray[np.float32]:
        seen.append(photo[0, 0, 0])
        return bright(photo)

    assert list(predict_masks(records, counted, tmp_path / "out", tmp_path / "journal")) == ["a", "b"]
    assert seen == [200]
    whole = (tmp_path / "out/a.png").read_bytes()
    (tmp_path / "out/a.png").write_bytes(whole[:-9])
    predict_masks(records, counted, tmp_path / "out", tmp_path / "journal")
    assert seen == [200, 0]
    assert (tmp_path / "out/a.png").read_bytes() == whole


def test_the_mean_of_nothing_is_not_a_number() -> None:
    assert mean([1.0, 2.0]) == 1.5
    assert np.isnan(mean([]))


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_crf_sharpens_what_is_found_in_any_number_of_processes(
    workers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEAKCLIP_WORKERS", workers)

    def noisy(photo: NDArray[np.uint8]) -> NDArray[np.float32]:
        share = np.clip(0.5 + 0.3 * rng(2).standard_normal(photo.shape[:2], np.float32), 0.1, 0.9)
        return np.stack([np.zeros_like(share), share, 1 - share])

    records = records_in(tmp_path)
    confidence = predict_masks(records, noisy, tmp_path / "out", tmp_path / "journal", KERNEL)
    for record in records:
        photo = read_photo(record.photo)
        sharpened = sharpen_winners(photo, noisy(photo), KERNEL)
        assert np.array_equal(read_mask(tmp_path / f"out/{record.image_id}.png"), sharpened.argmax(axis=0))
        assert confidence[record.image_id] == float(sharpened.max(axis=0).mean(dtype=np.float64))
