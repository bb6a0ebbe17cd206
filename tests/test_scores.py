import pickle
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from weakclip.errors import WeakClipError
from weakclip.scores import OPEN_AT_MOST, ScoreStore, ScoreWriter

IMAGES = tuple(f"photo{number}" for number in range(7))


def scores(image_id: str) -> tuple[list[int], NDArray[np.float32]]:
    number = int(image_id[-1])
    draw = np.random.default_rng(number)
    return [0, *range(3, 3 + number % 3)], draw.random((1 + number % 3, 4 + number, 6), dtype=np.float32)


def writer(folder: Path) -> ScoreWriter:
    return ScoreWriter(folder, IMAGES, {"classes": ["cat"], "tag_filter": True}, images_per_shard=3)


def write(folder: Path, order: tuple[str, ...] = IMAGES) -> dict[str, bytes]:
    target = writer(folder)
    for image_id in order:
        if image_id in target.missing:
            target.write(image_id, *scores(image_id))
    target.finish()
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_scores_come_back_with_their_classes(tmp_path: Path) -> None:
    write(tmp_path)
    store = ScoreStore(tmp_path)

    assert store.image_ids == IMAGES
    assert store.attributes == {"classes": ["cat"], "tag_filter": True}
    for image_id in IMAGES:
        classes, probabilities = store.read(image_id)
        assert classes.tolist() == scores(image_id)[0]
        assert probabilities.dtype == np.float16
        np.testing.assert_array_equal(probabilities, scores(image_id)[1].astype(np.float16))


def test_bytes_do_not_depend_on_the_order_or_on_an_interruption(tmp_path: Path) -> None:
    expected = write(tmp_path / "a")
    assert sorted(expected) == ["index.json", "shard-00000.h5", "shard-00001.h5", "shard-00002.h5"]
    assert write(tmp_path / "b", IMAGES[::-1]) == expected

    interrupted = writer(tmp_path / "c")
    for image_id in IMAGES[2:]:
        interrupted.write(image_id, *scores(image_id))
    assert interrupted.missing == IMAGES[:2]
    assert writer(tmp_path / "c").missing == IMAGES[:3]  # of the incomplete shard all are made again
    assert write(tmp_path / "c") == expected


def test_the_journal_of_a_writer_killed_after_its_shard_was_complete_is_removed(tmp_path: Path) -> None:
    expected = write(tmp_path)
    (tmp_path / "shard-00000.h5.journal").write_bytes(b"left")
    assert write(tmp_path) == expected


def test_a_damaged_shard_is_written_again_on_resume_and_refused_on_reading(tmp_path: Path) -> None:
    expected = write(tmp_path)
    path = tmp_path / "shard-00001.h5"
    content = bytearray(path.read_bytes())
    content[2048] ^= 1  # in the first row
    path.write_bytes(content)

    store = ScoreStore(tmp_path)
    store.read("photo0")
    with pytest.raises(WeakClipError, match=r"shard-00001.h5 is damaged: row 0 .*photo3") as caught:
        store.read("photo3")
    assert "dvc repro -f -s generate_masks" in caught.value.hint
    assert writer(tmp_path).missing == IMAGES[3:6]
    assert write(tmp_path) == expected


def test_other_attributes_or_images_start_over(tmp_path: Path) -> None:
    write(tmp_path)

    assert ScoreWriter(tmp_path, IMAGES, {"tag_filter": False}, images_per_shard=3).missing == IMAGES
    other = ScoreWriter(tmp_path, IMAGES[1:], {"classes": ["cat"], "tag_filter": True}, images_per_shard=3)
    assert other.missing == IMAGES[1:]


def test_missing_files_and_images_are_named(tmp_path: Path) -> None:
    with pytest.raises(WeakClipError, match=r"index.json is missing"):
        ScoreStore(tmp_path)
    write(tmp_path)
    (tmp_path / "shard-00002.h5").unlink()
    with pytest.raises(WeakClipError, match=r"shard-00002.h5 is missing"):
        ScoreStore(tmp_path).read("photo6")
    with pytest.raises(WeakClipError, match="does not hold the image photo9"):
        ScoreStore(tmp_path).read("photo9")


def test_a_shard_of_another_run_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    other = ScoreWriter(tmp_path / "other", IMAGES[:3], {"tag_filter": False}, images_per_shard=3)
    for image_id in IMAGES[:3]:
        other.write(image_id, *scores(image_id))
    (tmp_path / "other" / "shard-00000.h5").replace(tmp_path / "shard-00000.h5")

    with pytest.raises(WeakClipError, match=r"shard-00000.h5 does not belong to .*index.json"):
        ScoreStore(tmp_path).read("photo0")


def test_a_store_can_be_sent_to_another_process(tmp_path: Path) -> None:
    write(tmp_path)
    store = ScoreStore(tmp_path)
    store.read("photo1")

    sent = pickle.dumps(store)

    assert len(sent) < 500
    assert pickle.loads(sent).read("photo1")[0].tolist() == [0, 3]


def test_a_part_of_a_store_is_sent_without_the_index_of_all(tmp_path: Path) -> None:
    write(tmp_path)
    part = ScoreStore(tmp_path).part(["photo1", "photo5", "photo4", "elsewhere"])
    (tmp_path / "index.json").unlink()

    sent = pickle.loads(pickle.dumps(part))

    assert sent.image_ids == ("photo1", "photo5", "photo4")
    for image_id in sent.image_ids:
        classes, probabilities = sent.read(image_id)
        assert classes.tolist() == scores(image_id)[0]
        np.testing.assert_array_equal(probabilities, scores(image_id)[1].astype(np.float16))
    with pytest.raises(WeakClipError, match="does not hold the image photo0"):
        sent.read("photo0")


def test_wrong_shapes_early_finish_and_repeated_images_are_refused(tmp_path: Path) -> None:
    target = writer(tmp_path)

    with pytest.raises(ValueError, match="expected"):
        target.write("photo0", [0, 1], np.zeros((1, 2, 2)))
    with pytest.raises(ValueError, match="7 are missing"):
        target.finish()
    with pytest.raises(ValueError, match="each once"):
        ScoreWriter(tmp_path, ("a", "a"), {})


def test_only_a_few_shards_are_open_at_a_time(tmp_path: Path) -> None:
    many = tuple(f"photo{number:02d}" for number in range(9))
    maker = ScoreWriter(tmp_path, many, {}, images_per_shard=1)
    for number, image_id in enumerate(many):
        maker.write(image_id, [0, 1], np.full((2, 1, 1), number / 16))
    maker.finish()
    store = ScoreStore(tmp_path)
    for number in (*range(9), 0, 8):
        assert store.read(many[number])[1].tolist() == [[[number / 16]], [[number / 16]]]
        assert len(store._shards._readers) <= OPEN_AT_MOST


def test_an_index_of_another_format_is_named_as_such(tmp_path: Path) -> None:
    write(tmp_path)
    index = tmp_path / "index.json"
    index.write_text('{"format": 1, "attributes": {}, "shards": [], "images": {}}')  # which had no checksum
    with pytest.raises(WeakClipError, match=r"index\.json has format 1, this version reads 2"):
        ScoreStore(tmp_path)
