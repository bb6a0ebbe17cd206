"""Predictions of networks that learnt nothing: what counts is that they are those of the network, photo by photo."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from tests.untrained import save_untrained_weakclip
from weakclip.crf import CrfKernel
from weakclip.datasets.index import ClassList, Record
from weakclip.datasets.mini import MiniWorld
from weakclip.deeplab.model import build_deeplab
from weakclip.deeplab.prediction import load_deeplab, predict_probabilities
from weakclip.errors import WeakClipError
from weakclip.images import read_photo
from weakclip.inference import Fusion
from weakclip.masks import read_mask
from weakclip.network.trained import load_weakclip
from weakclip.predict import Settings, photo_files, predict
from weakclip.pseudo_masks import predictor, write_masks
from weakclip.weights import save_weights

CLASSES = ClassList(names=("cat", "dog", "car"), synonyms=((), (), ()), background_words=("grass",))
KERNEL = CrfKernel(gaussian_sxy=1, gaussian_compat=3, bilateral_sxy=20, bilateral_srgb=8, bilateral_compat=10, iterations=2)
ALL = list(CLASSES.with_background)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders ``deeplab`` and ``weakclip``."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    network = build_deeplab(network="deeplabv3plus", encoder="mini", encoder_weights="mini", num_classes=4, output_stride=16)
    scene = torch.from_numpy(MiniWorld(seed=0).scene("val", 0).image.copy()).permute(2, 0, 1)[None].float()
    with torch.no_grad():  # every class wins somewhere
        network.head.coarse.weight.mul_(30)
        network.head.coarse.bias[:4] -= network.eval()(scene).mean(dim=(0, 2, 3))
    card = {"network": "deeplabv3plus", "encoder": "mini", "num_classes": 4, "output_stride": 16, "classes": ALL}
    save_weights(folder / "deeplab", "deeplab", network.state_dict(), card)
    save_untrained_weakclip(folder / "weakclip", CLASSES)
    return folder


@pytest.fixture(autouse=True)
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two scenes, the second on its side, and a file that is no photo."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WEAKCLIP_WORKERS", "1")
    monkeypatch.setenv("WEAKCLIP_DEVICE", "cpu")
    first, second = (MiniWorld(seed=0).scene("val", index).image for index in (0, 1))
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    Path("photos/more").mkdir(parents=True)
    Image.fromarray(first[:80, :112]).save("photos/a.jpg")
    Image.fromarray(second[:64, :96]).save("photos/more/b.jpg", exif=turned)
    Path("photos/more/c.jpg").write_text("no photo")
    return Path("photos")


def leave_out(path: Path, error: WeakClipError) -> None:
    assert path.name == "c.jpg" and "is not an image" in error.problem


def test_three_lines_give_the_masks_of_the_deeplab(models: Path) -> None:
    found = list(predict("photos", model=models / "deeplab", on_error=leave_out))
    network = load_deeplab(models / "deeplab")
    assert [prediction.photo for prediction in found] == [Path("photos/a.jpg"), Path("photos/more/b.jpg")]
    for prediction in found:
        photo = read_photo(prediction.photo)
        probabilities = predict_probabilities(network, photo, scales=(1.0,), flip=True)
        assert np.array_equal(prediction.image, photo)
        assert np.array_equal(prediction.mask, probabilities.argmax(axis=0))
        assert np.allclose(prediction.confidence, probabilities.max(axis=0))
        assert prediction.classes == tuple(ALL[index] for index in np.unique(prediction.mask) if index)
    assert found[1].mask.shape == (96, 64) and any(prediction.classes for prediction in found)


@pytest.mark.parametrize("model", ["deeplab", "weakclip"])
def test_tags_leave_nothing_else_to_be_found(models: Path, model: str) -> None:
    free = next(predict("photos/a.jpg", model=models / model))
    assert len(np.unique(free.mask)) > 1
    tag = free.classes[0]
    tagged = next(predict("photos/a.jpg", model=models / model, tags=[tag]))
    among = np.isin(free.mask, (0, ALL.index(tag)))
    said = next(predict("photos/a.jpg", model=models / model, tags=f" {tag}, "))
    assert np.array_equal(said.mask, tagged.mask)
    assert set(np.unique(tagged.mask)) <= {0, ALL.index(tag)} and np.array_equal(free.mask[among], tagged.mask[among])
    assert (tagged.confidence[among] >= free.confidence[among] - 1e-5).all() and tagged.confidence.max() <= 1.0001


def test_weakclip_gives_the_pseudo_masks_of_the_pipeline(models: Path) -> None:
    settings = Settings(scales=(0.5, 1.0), base_size=(96, 64), stride=32, share_absent=True)
    files = ["photos/a.jpg", "photos/more/b.jpg"]
    found = list(predict(files, model=models / "weakclip", tags=("cat", "car"), settings=settings))
    records = [
        Record(image_id=Path(file).stem, photo=file, height=1, width=1, split="train", tags=(1, 3), mask=None) for file in files
    ]
    trained = load_weakclip(models / "weakclip")
    fusion = Fusion(scales=(0.5, 1.0), flip=True, base_size=(96, 64), window=64, stride=32, patch=8, multiple=trained.multiple)
    network = predictor(trained.model, trained.encoder)
    write_masks(records, network, 4, fusion, Path("scores"), Path("pseudo"), {}, tag_filter=True, share_absent=True)
    for record, prediction in zip(records, found, strict=True):
        pseudo = read_mask(Path("pseudo") / f"{record.image_id}.png")
        assert (pseudo == prediction.mask).mean() > 0.999  # the pipeline's scores are rounded to float16


def test_a_crf_may_follow(models: Path) -> None:
    plain = next(predict("photos/a.jpg", model=models / "deeplab"))
    sharpened = next(predict("photos/a.jpg", model=models / "deeplab", settings=Settings(kernel=KERNEL)))
    assert sharpened.mask.shape == plain.mask.shape and not np.array_equal(sharpened.mask, plain.mask)
    assert set(sharpened.classes) <= set(plain.classes)


def test_files_folders_and_patterns_are_found_once(photos: Path) -> None:
    everything = [Path("photos/a.jpg"), Path("photos/more/b.jpg"), Path("photos/more/c.jpg")]
    assert photo_files([photos]) == everything
    assert photo_files(["photos/**/*.jpg", photos / "a.jpg", Path("photos/more/../a.jpg").resolve()])[:1] != []
    assert {path.resolve() for path in photo_files(["photos/**/*.jpg", "photos"])} == {path.resolve() for path in everything}
    assert len(photo_files(["photos/**/*.jpg", "photos", "photos/a.jpg"])) == 3
    shutil.copy("photos/a.jpg", "photos/[1].jpg")
    assert photo_files(["photos/[1].jpg"]) == [Path("photos/[1].jpg")]
    Path("empty").mkdir()
    for name, problem in (("gone.jpg", "is not there"), ("gone/*.jpg", "is not there"), ("empty", "holds no photos")):
        with pytest.raises(WeakClipError, match=problem):
            photo_files([photos, name])


def test_wrong_weights_and_tags_are_named_before_anything_is_read(models: Path) -> None:
    with pytest.raises(WeakClipError, match="photos holds neither a DeepLab"):
        predict("photos", model="photos")
    with pytest.raises(WeakClipError, match="does not know the tag 'kat'") as caught:
        predict("photos", model=models / "weakclip", tags=["kat"])
    assert caught.value.hint == "did you mean cat? it knows: cat, dog, car"
    with pytest.raises(WeakClipError, match=r"c\.jpg is not an image"):
        list(predict("photos", model=models / "deeplab"))
