import errno
import json
import os
import pickle
import resource
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from weakclip.datasets.index import Record
from weakclip.errors import WeakClipError
from weakclip.features.cache import CacheSize, cache_features
from weakclip.features.plan import ViewRecipe, plan_shards
from weakclip.features.store import FeatureStore
from weakclip.features.token_formats import FLOAT16, FORMATS, TokenFormat
from weakclip.features.views import render_photo
from weakclip.images import read_photo
from weakclip.sealed import sealed, unsealed
from weakclip.side_by_side import MOST
from weakclip.write_behind import WAITING

SIZES = ((24, 32), (24, 32), (40, 32), (24, 32), (17, 60), (24, 32))
BLOCKS = (1, 4)


class PatchMeans:
    """An encoder that computes something from pixels: the mean colour of each patch, projected."""

    patch = 8
    blocks = BLOCKS
    width = 6

    def __init__(self, interrupt_after: int | None = None) -> None:
        self.attributes: Mapping[str, object] = {"model": "patch means", "weights_hash": "0", "mean": [0.5], "std": [0.5]}
        self.batches: list[tuple[int, ...]] = []
        self._interrupt_after, self._lock = interrupt_after, Lock()
        draw = torch.Generator().manual_seed(0)
        self._matrices = [torch.randn(3, self.width, generator=draw) for _ in BLOCKS]

    def __call__(self, images: Tensor) -> list[Tensor]:
        assert images.dtype == torch.uint8 and torch.is_inference_mode_enabled()
        with self._lock:  # batches are encoded side by side
            if len(self.batches) == self._interrupt_after:
                raise KeyboardInterrupt
            self.batches.append(tuple(images.shape))
        means = torch.nn.functional.avg_pool2d(images.float() / 255, self.patch).flatten(2).transpose(1, 2)
        tokens = torch.cat([means.mean(dim=1, keepdim=True), means], dim=1)
        return [tokens @ matrix for matrix in self._matrices]


def recipe(crops: int = 2, scales: tuple[float, ...] = (1.0,)) -> ViewRecipe:
    return ViewRecipe(scales=scales, flip=True, crops=crops, crop_scale=(0.6, 1.4), colour=0.2, image_size=32, patch=8, seed=0)


@pytest.fixture
def records(tmp_path: Path) -> tuple[Record, ...]:
    draw = np.random.default_rng(0)
    made = []
    for number, (height, width) in enumerate(SIZES):
        path = tmp_path / f"photo{number}.png"
        Image.fromarray(draw.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
        record = Record(image_id=path.stem, photo=str(path), height=height, width=width, split="train", tags=(1,), mask=None)
        made.append(record)
    return tuple(made)


def cache(
    records: tuple[Record, ...],
    folder: Path,
    *,
    encoder: PatchMeans | None = None,
    shard_bytes: int = 4000,
    workers: int = 2,
    token_format: TokenFormat = FLOAT16,
) -> CacheSize:
    return cache_features(
        records,
        encoder or PatchMeans(),
        recipe(),
        folder,
        shard_bytes=shard_bytes,
        batch_size=4,
        workers=workers,
        token_format=token_format,
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_store_holds_what_the_encoder_makes_of_each_view(records: tuple[Record, ...], tmp_path: Path) -> None:
    size = cache(records, tmp_path / "features")
    store = FeatureStore(tmp_path / "features")

    # whole views of 24 x 32: 1 + 3 * 4 tokens, of 40 x 32: 1 + 4 * 3, of 17 x 60: 1 + 1 * 4; crops: 1 + 4 * 4
    tokens = 2 * (5 * 13 + 5) + 6 * 2 * 17
    assert size == CacheSize(images=6, views=24, tokens=tokens, n_bytes=tokens * 2 * 6 * 2)
    assert len(store) == 24 and store.image_ids == tuple(record.image_id for record in records)
    assert (store.blocks, store.patch, store.width) == (BLOCKS, 8, 6)
    assert store.attributes["model"] == "patch means" and store.attributes["recipe"]["seed"] == 0
    encoder = PatchMeans()
    for record in records:
        assert store.views(record.image_id) == recipe().views(record)
        assert [store.view(row).flip for row in store.whole_rows(record.image_id)] == [False, True]
        for row in [*store.whole_rows(record.image_id), *store.crop_rows(record.image_id)]:
            pixels = render_photo(read_photo(record.photo), store.view(row))
            with torch.inference_mode():
                expected = encoder(torch.from_numpy(pixels).permute(2, 0, 1)[None])
            read = store.read(row)
            assert read.keys() == {*BLOCKS} and len(read[1]) == store.tokens(row)
            for block, array in zip(BLOCKS, expected, strict=True):
                np.testing.assert_allclose(read[block], array[0].numpy(), atol=2e-3)


def test_bytes_depend_neither_on_threads_nor_on_the_run(records: tuple[Record, ...], tmp_path: Path) -> None:
    cache(records, tmp_path / "a", workers=1)
    cache(records, tmp_path / "b", workers=3)

    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert sorted(contents(tmp_path / "a")) == ["index.json", "shard-00000.h5", "shard-00001.h5", "shard-00002.h5"]


def test_int8_takes_half_the_room_and_reads_as_floats(records: tuple[Record, ...], tmp_path: Path) -> None:
    half = cache(records, tmp_path / "half")
    size = cache(records, tmp_path / "int8", token_format=FORMATS["int8"])
    # a byte where there were two, and a scale of four bytes for each of 6 channels of 2 blocks of a view
    assert size == CacheSize(images=6, views=24, tokens=half.tokens, n_bytes=half.n_bytes // 2 + 24 * 2 * 6 * 4)
    exact, store = FeatureStore(tmp_path / "half"), FeatureStore(tmp_path / "int8")
    assert store.attributes["dtype"] == "int8" and store.blocks == BLOCKS
    for row in range(len(store)):
        for block, tokens in store.read(row).items():
            expected = exact.read(row)[block].astype(np.float32)
            assert tokens.dtype == np.float32 and tokens.shape == expected.shape
            assert (np.abs(tokens - expected) <= 0.0045 * np.abs(expected).max(axis=0)).all()
    rows = [store.crop_rows(image_id)[0] for image_id in store.image_ids]
    batch = store.read_batch(rows)
    np.testing.assert_array_equal(batch[4][2], store.read(rows[2], [4])[4])


def test_int8_is_gone_on_with_and_checked_as_float16_is(records: tuple[Record, ...], tmp_path: Path) -> None:
    int8 = FORMATS["int8"]
    cache(records, tmp_path / "a", token_format=int8)
    with pytest.raises(KeyboardInterrupt):
        cache(records, tmp_path / "b", encoder=PatchMeans(interrupt_after=3), token_format=int8)
    cache(records, tmp_path / "b", workers=1, token_format=int8)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")

    path = tmp_path / "b" / "shard-00000.h5"
    with h5py.File(path) as file:
        place = file["block_4_scale"].id.get_offset()
        assert file["block_4_scale"].shape == (len(file["rows"]), 6)
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeakClipError, match=r"shard-00000.h5 is damaged: row 0 .*photo0"):
        FeatureStore(tmp_path / "b").read(0)


def test_tokens_of_an_unknown_format_are_refused(records: tuple[Record, ...], tmp_path: Path) -> None:
    cache(records, tmp_path / "features")
    index = tmp_path / "features" / "index.json"
    content = unsealed(index.read_bytes())
    content["attributes"]["dtype"] = "int4"
    index.write_text(json.dumps(sealed(content)))
    with pytest.raises(WeakClipError, match="holds tokens as int4, this version reads float16 and int8"):
        FeatureStore(tmp_path / "features")


def test_attributes_are_in_every_shard_and_in_the_index(records: tuple[Record, ...], tmp_path: Path) -> None:
    cache(records, tmp_path / "features")
    index = json.loads((tmp_path / "features" / "index.json").read_text())

    assert index["images"] == {record.image_id: 4 * place for place, record in enumerate(records)}
    assert [shard["rows"] for shard in index["shards"]] == [8, 12, 4]
    for shard in index["shards"]:
        with h5py.File(tmp_path / "features" / shard["file"]) as file:
            assert {name: json.loads(file.attrs[name]) for name in index["attributes"]} == index["attributes"]


@pytest.mark.parametrize("after", range(9))
def test_an_interrupted_run_is_gone_on_with_to_the_same_bytes(records: tuple[Record, ...], tmp_path: Path, after: int) -> None:
    whole = PatchMeans()
    cache(records, tmp_path / "a", encoder=whole)
    interrupted, resumed = PatchMeans(interrupt_after=after), PatchMeans()
    if after < len(whole.batches):
        with pytest.raises(KeyboardInterrupt):
            cache(records, tmp_path / "b", encoder=interrupted)
    cache(records, tmp_path / "b", encoder=resumed)

    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    # the same batches, those that were written not again
    assert Counter(resumed.batches) <= Counter(whole.batches)
    left = max(0, len(whole.batches) - after)
    assert left <= len(resumed.batches) <= left + (WAITING + MOST + 1 if left else 0)


def test_a_batch_is_encoded_whole_when_one_of_its_rows_is_missing(records: tuple[Record, ...], tmp_path: Path) -> None:
    undisturbed, resumed = PatchMeans(), PatchMeans()
    cache(records, tmp_path / "a", encoder=undisturbed, shard_bytes=10**6)
    last = len(undisturbed.batches) - 1  # of those before it one at least is written by then
    assert last > 2
    with pytest.raises(KeyboardInterrupt):
        cache(records, tmp_path / "b", encoder=PatchMeans(interrupt_after=last), shard_bytes=10**6)
    journal = tmp_path / "b" / "shard-00000.h5.journal"
    os.truncate(journal, journal.stat().st_size - 5)
    cache(records, tmp_path / "b", encoder=resumed, shard_bytes=10**6)

    assert Counter(resumed.batches) <= Counter(undisturbed.batches)  # none of a single row
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_shards_hold_whole_images_up_to_their_size(records: tuple[Record, ...]) -> None:
    def groups(shard_bytes: int) -> list[list[str]]:
        shards = plan_shards(records, recipe(), token_bytes=24, shard_bytes=shard_bytes)
        return [[record.image_id[-1] for record in shard.records] for shard in shards]

    # an image has 2 * 13 + 2 * 17 = 60 tokens, 1440 bytes; photo4 2 * 5 + 2 * 17 = 44 tokens, 1056 bytes
    assert groups(1) == [["0"], ["1"], ["2"], ["3"], ["4"], ["5"]]
    assert groups(2880) == [["0", "1"], ["2", "3"], ["4", "5"]]
    assert groups(3936) == [["0", "1"], ["2", "3", "4"], ["5"]]


def test_batches_hold_every_row_once_and_views_of_one_size(records: tuple[Record, ...]) -> None:
    (shard,) = plan_shards(records, recipe(), token_bytes=24, shard_bytes=10**6)
    batches = list(shard.batches(4))

    assert sorted(row for batch in batches for row in batch) == list(range(24))
    for batch in batches:
        assert len({(shard.rows[row][1].height, shard.rows[row][1].width) for row in batch}) == 1
    assert [len(batch) for batch in batches].count(4) == 5


def test_without_augmented_views_only_whole_ones_are_stored(records: tuple[Record, ...], tmp_path: Path) -> None:
    size = cache_features(records, PatchMeans(), recipe(crops=0, scales=(0.5, 1.0)), tmp_path / "f", shard_bytes=10**6)
    store = FeatureStore(tmp_path / "f")

    assert size.views == 24
    assert [len(store.whole_rows("photo3")), len(store.crop_rows("photo3"))] == [4, 0]
    assert [(view.height, view.width) for view in store.views("photo3")] == [(16, 16), (16, 16), (24, 32), (24, 32)]


def test_batches_are_read_into_given_buffers(records: tuple[Record, ...], tmp_path: Path) -> None:
    cache(records, tmp_path / "features")
    store = FeatureStore(tmp_path / "features")
    rows = [store.crop_rows(image_id)[1] for image_id in store.image_ids]
    buffers = {block: np.zeros((8, 17, 6), dtype=np.float16) for block in BLOCKS}

    batch = store.read_batch(rows, buffers)

    assert batch[1].base is buffers[1]
    for block in BLOCKS:
        np.testing.assert_array_equal(batch[block], np.stack([store.read(row)[block] for row in rows]))
        np.testing.assert_array_equal(batch[block], store.read_batch(rows)[block])
    with pytest.raises(ValueError, match=r"equally many tokens, got \[13, 17\]"):
        store.read_batch([0, 2])
    with pytest.raises(ValueError, match="expected an array"):
        store.read_batch(rows, {block: array[:, :9] for block, array in buffers.items()})


def test_rows_that_were_let_go_are_read_again(records: tuple[Record, ...], tmp_path: Path) -> None:
    cache(records, tmp_path / "features")
    store = FeatureStore(tmp_path / "features")
    rows = range(len(store))
    window = store.read(0)[1]
    before = [store.read(row)[block].copy() for row in rows for block in BLOCKS]

    store.let_go(rows)

    assert np.array_equal(window, before[0])
    for one, other in zip(before, (store.read(row)[block] for row in rows for block in BLOCKS), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_damaged_row_is_named_with_its_image(records: tuple[Record, ...], tmp_path: Path) -> None:
    cache(records, tmp_path / "features")
    path = tmp_path / "features" / "shard-00001.h5"
    with h5py.File(path) as file:
        place = file["block_4"].id.get_offset()
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    store = FeatureStore(tmp_path / "features")

    store.read(0)
    with pytest.raises(WeakClipError, match=r"shard-00001.h5 is damaged: row 0 .*photo2") as caught:
        store.read(8)
    assert "dvc repro -f -s cache_features" in caught.value.hint


def test_a_store_can_be_sent_to_another_process_and_used_after_a_fork(records: tuple[Record, ...], tmp_path: Path) -> None:
    cache(records, tmp_path / "features")
    store = FeatureStore(tmp_path / "features")
    first = store.read(0)[1].tolist()

    assert pickle.loads(pickle.dumps(store)).read(0)[1].tolist() == first
    child = os.fork()
    if child == 0:
        os._exit(0 if store.read(0)[1].tolist() == first and len(store.read(20)[1]) == 13 else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_disk_that_is_too_small_is_noticed_before_the_first_byte(
    records: tuple[Record, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=5000))

    with pytest.raises(WeakClipError, match=r"features need 8.3 kB, 5.0 kB are free on the disk") as caught:
        cache(records, tmp_path / "features")
    assert "clip.blocks (each is 4.1 kB)" in caught.value.hint
    assert "features.views (each is 2.4 kB; 0 encodes while training)" in caught.value.hint
    assert contents(tmp_path / "features") == {}


def test_numbers_that_float16_cannot_hold_are_refused_with_the_image(records: tuple[Record, ...], tmp_path: Path) -> None:
    class Loud(PatchMeans):
        def __call__(self, images: Tensor) -> list[Tensor]:
            quiet, loud = super().__call__(images)
            loud[1] *= 1e6
            return [quiet, loud]

    with pytest.raises(WeakClipError, match="features of photo0 in block 4 are not numbers, or too large for float16"):
        cache(records, tmp_path / "features", encoder=Loud())


def test_replaced_photos_unsuitable_sizes_and_empty_datasets_are_refused(records: tuple[Record, ...], tmp_path: Path) -> None:
    Image.new("RGB", (20, 20)).save(records[2].photo)
    with pytest.raises(WeakClipError, match=r"photo2.png is 20 x 20 pixels, the dataset index says 32 x 40"):
        cache(records, tmp_path / "a")
    Path(records[2].photo).unlink()
    with pytest.raises(WeakClipError, match=r"photo2.png is missing"):
        cache(records, tmp_path / "b")
    with pytest.raises(WeakClipError, match="no training images"):
        cache((), tmp_path / "c")
    odd = ViewRecipe(scales=(1.0,), flip=False, crops=1, crop_scale=(1, 1.1), colour=0, image_size=30, patch=8, seed=0)
    with pytest.raises(WeakClipError, match=r"clip.image_size is 30: should be a multiple of the encoder's patch, 8") as caught:
        cache_features(records, PatchMeans(), odd, tmp_path / "d", shard_bytes=1000)
    assert caught.value.hint == "set it to 24"


def test_a_disk_that_fills_up_keeps_what_is_finished_and_the_next_run_ends_with_the_same_bytes(
    records: tuple[Record, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache(records, tmp_path / "whole")
    reserve, left = os.posix_fallocate, iter([True, False])

    def full(file: int, offset: int, length: int) -> None:
        if not next(left):
            raise OSError(errno.ENOSPC, "No space left on device")
        reserve(file, offset, length)

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", full)
        with pytest.raises(WeakClipError, match=r"shard-00001.* needs \d.*B, \d.*B are free on the disk"):
            cache(records, tmp_path / "killed")
    assert [path.name for path in (tmp_path / "killed").iterdir()] == ["shard-00000.h5"]
    encoder, all_of_it = PatchMeans(), PatchMeans()
    cache(records, tmp_path / "killed", encoder=encoder)
    cache(records, tmp_path / "again", encoder=all_of_it)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert len(encoder.batches) < len(all_of_it.batches)


def test_too_few_open_files_cost_no_finished_shard(records: tuple[Record, ...], tmp_path: Path) -> None:
    cache(records, tmp_path / "features", workers=1)
    before = contents(tmp_path / "features")
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (next_handle(), allowed[1]))
    try:
        with pytest.raises(OSError, match="open") as caught:
            cache(records, tmp_path / "features", workers=1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, allowed)
    assert caught.value.errno == errno.EMFILE
    assert contents(tmp_path / "features") == before


def next_handle() -> int:
    """The number that the next file to be opened will have."""
    file = os.open(os.devnull, os.O_RDONLY)
    os.close(file)
    return file
