"""`weakclip predict` as a user types it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from stages.cli import app
from tests.conftest import ROOT
from tests.test_predict import models, photos  # noqa: F401
from weakclip.datasets.index import read_dataset
from weakclip.errors import WeakClipError
from weakclip.masks import PALETTE, read_mask
from weakclip.predict import predict


@pytest.fixture(autouse=True)
def params(photos: Path) -> None:  # noqa: F811
    Path("params.yaml").write_bytes((ROOT / "weakclip" / "presets" / "mini.yaml").read_bytes())


def test_masks_overlays_and_an_index_are_written(models: Path) -> None:  # noqa: F811
    Image.new("RGB", (64, 64), "teal").save("photos/more/a.jpg")
    Image.new("RGB", (64, 64), "teal").save("photos/more/a.png")
    command = ["predict", "photos", "--out", "out", "--model", str(models / "deeplab"), "--tags", "dog, car"]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert result.exit_code == 1  # not all photos could be used
    assert "c.jpg is not an image" in result.stderr and "would be called as that of" in result.stderr
    assert [line.split(":")[0] for line in result.stderr.splitlines()] == ["error", "hint"] * 2
    assert "wrote 3 masks and overlays to out: " in result.stdout and "2 photos left out" in result.stdout
    index = read_dataset(Path("out"))
    assert [record.image_id for record in index.records] == ["b", "more_a", "photos_a"]
    assert len(Path("out/skipped.csv").read_text().splitlines()) == 3
    expected = next(predict("photos/a.jpg", model=models / "deeplab", tags=["dog", "car"]))
    mask = read_mask(Path("out/masks/photos_a.png"))
    assert np.array_equal(mask, expected.mask)
    with Image.open("out/overlays/photos_a.jpg") as overlay:
        blended = 0.4 * expected.image + 0.6 * PALETTE[mask]
        assert np.abs(np.asarray(overlay, float) - blended).mean() < 12
    assert Path("out/masks/photos_a.png").read_bytes()[:4] == b"\x89PNG"
    exported = ["export", "--dataset", "out", "--masks", "out/masks", "--format", "coco", "--out", "out.json"]
    assert "wrote 3 images" in CliRunner().invoke(app, exported, catch_exceptions=False).stdout


def test_nothing_is_left_of_what_did_not_work(models: Path) -> None:  # noqa: F811
    for photo, model, problem in (
        ("photos/more/c.jpg", models / "deeplab", "none of the photos could be read"),
        ("photos", models, "holds neither a DeepLab"),
        ("nowhere", models / "deeplab", "nowhere is not there"),
    ):
        with pytest.raises(WeakClipError, match=problem):
            CliRunner().invoke(app, ["predict", photo, "--out", "out", "--model", str(model)], catch_exceptions=False)
    Path("out").mkdir()
    with pytest.raises(WeakClipError, match="out is there already"):
        command = ["predict", "photos/a.jpg", "--out", "out", "--model", str(models / "deeplab")]
        CliRunner().invoke(app, command, catch_exceptions=False)
    assert not list(Path("out").iterdir()) and {path.name for path in Path().iterdir()} == {"out", "params.yaml", "photos"}


def test_results_do_not_lie_among_the_photos(models: Path) -> None:  # noqa: F811
    for out in ("photos", "photos/more/out"):
        with pytest.raises(WeakClipError, match=f"{out} is in photos, where its masks and overlays would be taken for photos"):
            command = ["predict", "photos", "--out", out, "--model", str(models / "deeplab")]
            CliRunner().invoke(app, command, catch_exceptions=False)
    assert not Path("photos/more/out").exists()


def test_tags_may_be_given_one_by_one(models: Path) -> None:  # noqa: F811
    for out, tags in (("one", ["--tags", "dog,car"]), ("two", ["--tags", "dog", "--tags", "car"])):
        command = ["predict", "photos/a.jpg", "--out", out, "--model", str(models / "deeplab"), *tags]
        assert CliRunner().invoke(app, command, catch_exceptions=False).exit_code == 0
    assert Path("one/masks/a.png").read_bytes() == Path("two/masks/a.png").read_bytes()
    expected = next(predict("photos/a.jpg", model=models / "deeplab", tags=["dog", "car"]))
    assert np.array_equal(read_mask(Path("two/masks/a.png")), expected.mask)
