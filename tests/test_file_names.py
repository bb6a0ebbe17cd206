import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from weakclip.datasets.index import ClassList, Dataset, Record, read_dataset, write_dataset
from weakclip.file_names import is_no_file, remove
from weakclip.images import file_crc32, read_photo
from weakclip.masks import is_mask, mask_file, read_mask, write_mask
from weakclip.par import ParKernel
from weakclip.progress import bytes_in
from weakclip.refinement import Refinement, refine_all
from weakclip.resume import ResumeSlot, fingerprint
from weakclip.scores import ScoreStore, ScoreWriter

SAME: dict[str, Any] = {"height": 8, "width": 9, "split": "train", "tags": (1,)}


def test_what_stands_where_a_file_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    assert [is_no_file(tmp_path / name) for name in ("file", "pipe", "nothing", "file/below")] == [False, True, False, False]
    assert is_no_file(str(tmp_path))
    remove(tmp_path / "file")
    remove(tmp_path / "file")
    assert not (tmp_path / "file").exists()


@pytest.fixture
def entered(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], int]:
    """How many names with a word in them `pathlib` has entered into the interpreter's table."""
    names: list[str] = []

    def intern(name: str) -> str:
        names.append(name)
        return name

    monkeypatch.setattr(sys, "intern", intern)
    return lambda word: sum(word in name for name in names)


def test_names_of_images_do_not_go_through_the_interpreters_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entered: Callable[[str], int]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("photos", "slot/masks"):
        Path(name).mkdir(parents=True)
    names = [f"tiny{number}" for number in range(3)]
    for name in names:
        Image.new("RGB", (9, 8)).save(f"photos/{name}.png")
    crcs = [file_crc32(f"photos/{name}.png") for name in names]
    records = tuple(
        Record(
            image_id=name,
            photo=f"photos/{name}.png",
            height=8,
            width=9,
            split="train",
            tags=(1,),
            mask=f"m/{name}.png",
            crc32=crc,
        )
        for name, crc in zip(names, crcs, strict=True)
    )
    classes = ClassList(names=("cat",), synonyms=((),), background_words=())
    write_dataset(Dataset(name="folder", classes=classes, records=records), Path("dataset"))
    slot = ResumeSlot(Path("slot"))
    for record in read_dataset(Path("dataset")).training:
        mask = mask_file(slot.folder / "masks", record.image_id)
        write_mask(mask, np.ones(read_photo(record.photo, record.crc32).shape[:2], np.uint8))
        assert is_mask(mask) and read_mask(mask).all()
    slot.publish("masks", Path("masks"))
    assert len(fingerprint(stage="s", params={}, inputs=[Path("masks")], code=[])) == 32
    assert bytes_in(Path("masks")) == bytes_in(Path("slot")) > 0
    slot.publish("masks", Path("masks"))  # which removes the former ones
    slot.close()

    assert not Path("slot").exists() and entered("photos") > 0  # names of folders do: it is counted
    assert entered("tiny") == 0


def test_names_of_shards_do_not_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entered: Callable[[str], int]) -> None:
    monkeypatch.chdir(tmp_path)
    write_scores("abc")
    store = ScoreStore(Path("scores"))
    before = entered("scores")
    for image_id in "abc":
        classes, _ = pickle.loads(pickle.dumps(store.part([image_id]))).read(image_id)
        assert classes.tolist() == [0, 1]
    assert before > 0 and entered("scores") == before
    assert entered("shard-") == 0


def test_more_images_to_refine_enter_no_more_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entered: Callable[[str], int]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_scores("abcdefgh")
    refinement = Refinement(kernel=ParKernel(dilations=(1,), iterations=1), tag_limited=True, gate=0.5)
    counts = []
    for image_ids in ("ab", "abcdefgh"):
        for image_id in image_ids:
            Image.new("RGB", (9, 8)).save(f"{image_id}.png")
        records = [Record(image_id=image_id, photo=f"{image_id}.png", mask=None, **SAME) for image_id in image_ids]
        before = entered("")
        refine_all(records, Path("scores"), Path("out", image_ids), refinement, workers=1)
        counts.append(entered("") - before)
    assert counts[0] == counts[1] > 0


def write_scores(image_ids: str) -> None:
    writer = ScoreWriter(Path("scores"), image_ids, {}, images_per_shard=2)
    for image_id in image_ids:
        writer.write(image_id, [0, 1], np.full((2, 8, 9), 0.5))
    writer.finish()
