import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from stages import cache_features
from tests.conftest import ROOT, change_params
from weakclip.clip.image_encoder import ImageEncoder
from weakclip.clip.mini import MEAN, STD, build_mini_clip
from weakclip.clip.model import Clip
from weakclip.datasets.index import ClassList, Dataset, Record, read_dataset, write_dataset
from weakclip.errors import WeakClipError
from weakclip.features import cache
from weakclip.features.store import FeatureStore
from weakclip.features.views import View, render_photo
from weakclip.images import file_crc32, read_photo
from weakclip.sealed import unsealed

METRICS = Path("data/results/cache_features/metrics.json")


@pytest.fixture(autouse=True)
def clip(monkeypatch: pytest.MonkeyPatch) -> Clip:
    """The mini CLIP's network with random weights, in place of the trained ones."""
    torch.manual_seed(0)
    network = build_mini_clip().eval().requires_grad_(False)
    made = Clip(
        model="mini",
        weights="mini",
        network=network,
        tokenizer=open_clip.SimpleTokenizer(context_length=32),
        weights_hash="0" * 64,
        mean=MEAN,
        std=STD,
    )
    monkeypatch.setattr(cache_features, "load_clip", lambda model, weights: made)
    return made


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three training images and a val image."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WEAKCLIP_WORKERS", "2")
    monkeypatch.setenv("WEAKCLIP_DEVICE", "cpu")
    shutil.copyfile(ROOT / "weakclip" / "presets" / "mini.yaml", "params.yaml")
    change_params(Path("params.yaml"), {"features.views": 2, "clip.image_size": 64, "masks.stride": 32})
    draw = np.random.default_rng(0)
    photos = Path("data/raw/photos")
    photos.mkdir(parents=True)
    records = []
    for image_id, (height, width) in {"a": (48, 64), "b": (64, 40), "c": (48, 64), "v": (48, 64)}.items():
        photo = photos / f"{image_id}.png"
        Image.fromarray(draw.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(photo)
        split = "val" if image_id == "v" else "train"
        records.append(
            Record(image_id=image_id, photo=str(photo), height=height, width=width, split=split, tags=(1,), mask=None)
        )
    classes = ClassList(names=("cat",), synonyms=((),), background_words=())
    write_dataset(Dataset(name="test", classes=classes, records=tuple(records)), Path("data/dataset"))
    return tmp_path


def features() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path("data/features").iterdir()}


def test_training_images_are_encoded_and_counted(project: Path, clip: Clip, capsys: pytest.CaptureFixture[str]) -> None:
    cache_features.main()

    store = FeatureStore(Path("data/features"))
    assert store.image_ids == ("a", "b", "c")
    assert store.attributes["weights_hash"] == clip.weights_hash and store.attributes["blocks"] == [1, 3, 4]
    view = store.view(store.crop_rows("b")[1])
    pixels = torch.from_numpy(render_photo(read_photo(Path("data/raw/photos/b.png")), view))
    with torch.inference_mode():
        tokens = ImageEncoder(clip, blocks=(1, 3, 4))(pixels.permute(2, 0, 1)[None])
    for block, array in store.read(store.crop_rows("b")[1]).items():
        np.testing.assert_allclose(array, tokens[(1, 3, 4).index(block)][0].numpy(), rtol=2e-3, atol=2e-3)

    # whole views of 48 x 64: 1 + 6 * 8 tokens, of 64 x 40: 1 + 8 * 5; crops 1 + 8 * 8; 128 channels, 3 blocks, float16
    n_bytes = (2 * (49 + 41 + 49) + 6 * 65) * 128 * 3 * 2
    expected = {"images": 3, "total_views": 12, "gigabytes": round(n_bytes / 1e9, 4)}
    assert unsealed(METRICS.read_bytes()) == {"features": expected}
    assert "3 images, 12 views in " in capsys.readouterr().out
    assert not list(Path(".resume").rglob("*.h5"))


def test_a_rerun_gives_the_same_bytes_and_other_parameters_others(project: Path) -> None:
    cache_features.main()
    first, figures = features(), METRICS.read_bytes()
    cache_features.main()
    assert (features(), METRICS.read_bytes()) == (first, figures)

    change_params(Path("params.yaml"), {"seed": 1})
    cache_features.main()
    assert features()["shard-00000.h5"] != first["shard-00000.h5"]


def test_an_interrupted_run_leaves_nothing_and_is_gone_on_with(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change_params(Path("params.yaml"), {"features.shard_gigabytes": 1.0e-4})
    cache_features.main()
    undisturbed = features()
    shutil.rmtree("data/features")
    METRICS.unlink()
    rendered: list[str] = []
    original = cache._render

    def interrupted(record: Record, views: Mapping[int, View]) -> dict[int, NDArray[np.uint8]]:
        if record.image_id == "c":
            raise KeyboardInterrupt
        return original(record, views)

    def watched(record: Record, views: Mapping[int, View]) -> dict[int, NDArray[np.uint8]]:
        rendered.append(record.image_id)
        return original(record, views)

    monkeypatch.setattr(cache, "_render", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cache_features.main()
    assert not Path("data/features").exists() and not METRICS.exists()

    monkeypatch.setattr(cache, "_render", watched)
    cache_features.main()
    assert rendered == ["c"]
    assert features() == undisturbed
    assert sorted(undisturbed) == ["index.json", "shard-00000.h5", "shard-00001.h5", "shard-00002.h5"]


def test_a_replaced_photo_is_refused_until_the_index_lists_it(project: Path) -> None:
    index = read_dataset(Path("data/dataset"))
    listed = tuple(replace(record, crc32=file_crc32(record.photo)) for record in index.records)
    write_dataset(replace(index, records=listed), Path("data/dataset"))
    Image.new("RGB", (64, 48)).save("data/raw/photos/a.png")
    with pytest.raises(WeakClipError, match=r"a\.png is damaged, or another photo than the dataset index lists") as caught:
        cache_features.main()
    assert "dvc repro prepare_dataset" in caught.value.hint
    (before,) = Path(".resume/cache_features").iterdir()

    relisted = tuple(replace(record, crc32=file_crc32(record.photo)) for record in index.records)
    write_dataset(replace(index, records=relisted), Path("data/dataset"))
    cache_features.main()
    assert not before.exists()
    whole = FeatureStore(Path("data/features")).read(0)[4]
    mirrored = FeatureStore(Path("data/features")).read(1)[4]
    np.testing.assert_allclose(whole, mirrored, atol=1e-2)  # a black photo is its own mirror image
