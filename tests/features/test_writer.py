import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from weakclip.errors import WeakClipError
from weakclip.features.journal import RECORD
from weakclip.features.shards import Column, ShardLayout, ShardReader, create_shard, open_shard
from weakclip.features.writer import ShardWriter

COUNTS = (3, 1, 4, 1, 5)
LAYOUT = ShardLayout(
    columns=(Column(name="block_1", shape=(2,), dtype="<f2"), Column(name="block_4", shape=(3,), dtype="<f2")),
    counts=COUNTS,
    about=tuple(f'{{"image_id": "photo{row}"}}' for row in range(len(COUNTS))),
    attributes={
        "model": "mini",
        "mean": [0.1, 0.2],
        "blocks": [1, 4],
        "views": {"flip": True},
        **{f"a{i}": i for i in range(9)},
    },
)


def entries(row: int) -> dict[str, NDArray[Any]]:
    draw = np.random.default_rng(row)
    return {column.name: draw.normal(size=(COUNTS[row], *column.shape)).astype("<f2") for column in LAYOUT.columns}


def write(path: Path, order: list[int] | None = None) -> bytes:
    writer = ShardWriter(path, LAYOUT)
    for row in order if order is not None else writer.missing:
        writer.write(row, entries(row))
    writer.finish()
    return path.read_bytes()


def abandon(path: Path, rows: list[int]) -> None:
    """Write rows and stop as a killed process does: what is not flushed is not journalled, nothing is closed properly."""
    writer = ShardWriter(path, LAYOUT, flush_rows=2, flush_seconds=1e9)
    for row in rows:
        writer.write(row, entries(row))
    os.close(writer._file)
    writer._journal.close()


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def undisturbed(tmp_path: Path) -> bytes:
    (tmp_path / "reference").mkdir()
    return write(tmp_path / "reference" / "shard.h5")


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    write(tmp_path / "shard.h5")
    reader = ShardReader(tmp_path / "shard.h5", "")

    assert reader.layout.digest == LAYOUT.digest  # of its columns, rows and attributes
    for row in range(len(COUNTS)):
        for name, array in entries(row).items():
            np.testing.assert_array_equal(reader.read(row)[name], array)
    assert files(tmp_path) == ["shard.h5"]


def test_any_hdf5_program_can_read_a_shard(tmp_path: Path) -> None:
    write(tmp_path / "shard.h5")

    with h5py.File(tmp_path / "shard.h5") as file:
        np.testing.assert_array_equal(file["rows"], [[0, 3], [3, 1], [4, 4], [8, 1], [9, 5]])
        np.testing.assert_array_equal(file["block_4"][4:8], entries(2)["block_4"])
        assert file["block_1"].chunks is None
        assert file.attrs["model"] == b'"mini"'
        assert file["complete"][0] == 1


def test_bytes_do_not_depend_on_the_order_of_writing_or_the_time(tmp_path: Path, undisturbed: bytes) -> None:
    time.sleep(1.1)  # a time stamp would have another second
    for number, order in enumerate(([4, 3, 2, 1, 0], [2, 0, 4, 1, 3], [1, 1, 0, 2, 3, 4])):
        assert write(tmp_path / f"shard{number}.h5", order) == undisturbed


def test_an_abandoned_shard_is_gone_on_with(tmp_path: Path, undisturbed: bytes) -> None:
    path = tmp_path / "shard.h5"
    abandon(path, [4, 0, 2])

    assert files(tmp_path) == ["reference", "shard.h5.journal", "shard.h5.part"]
    assert ShardWriter(path, LAYOUT).missing == (1, 2, 3)  # row 2 was not flushed yet
    assert write(path) == undisturbed


def test_a_closed_shard_keeps_all_that_was_written(tmp_path: Path, undisturbed: bytes) -> None:
    writer = ShardWriter(tmp_path / "shard.h5", LAYOUT)
    writer.write(3, entries(3))
    writer.close()

    assert ShardWriter(tmp_path / "shard.h5", LAYOUT).missing == (0, 1, 2, 4)
    assert write(tmp_path / "shard.h5") == undisturbed


@pytest.mark.parametrize("torn", range(1, RECORD.size))
def test_a_torn_journal_record_is_dropped(tmp_path: Path, undisturbed: bytes, torn: int) -> None:
    path = tmp_path / "shard.h5"
    abandon(path, [4, 0])
    journal = tmp_path / "shard.h5.journal"
    journal.write_bytes(journal.read_bytes()[:-torn])

    resumed = ShardWriter(path, LAYOUT)
    assert resumed.missing == (0, 1, 2, 3)
    resumed.write(1, entries(1))
    resumed.close()
    assert ShardWriter(path, LAYOUT).missing == (0, 2, 3)
    assert write(path) == undisturbed


def test_a_damaged_journal_record_does_not_count(tmp_path: Path, undisturbed: bytes) -> None:
    path = tmp_path / "shard.h5"
    abandon(path, [4, 0])
    journal = tmp_path / "shard.h5.journal"
    content = bytearray(journal.read_bytes())
    content[0] ^= 1
    journal.write_bytes(content)

    assert ShardWriter(path, LAYOUT).missing == (1, 2, 3, 4)
    assert write(path) == undisturbed


def test_a_row_that_lost_its_bytes_is_made_again(tmp_path: Path, undisturbed: bytes) -> None:
    path, part = tmp_path / "shard.h5", tmp_path / "shard.h5.part"
    abandon(path, [4, 0])
    content = bytearray(part.read_bytes())
    content[open_shard(part, "").offsets["block_4"] + 9 * 6] ^= 1
    part.write_bytes(content)

    assert ShardWriter(path, LAYOUT).missing == (1, 2, 3, 4)
    assert write(path) == undisturbed


@pytest.mark.parametrize("rest", [0, 100, 3000])
def test_a_part_that_was_cut_off_is_made_again(tmp_path: Path, undisturbed: bytes, rest: int) -> None:
    path, part = tmp_path / "shard.h5", tmp_path / "shard.h5.part"
    abandon(path, [4, 0])
    part.write_bytes(part.read_bytes()[:rest])

    assert ShardWriter(path, LAYOUT).missing == (0, 1, 2, 3, 4)
    assert write(path) == undisturbed


def test_a_part_of_another_layout_is_not_gone_on_with(tmp_path: Path) -> None:
    other = ShardLayout(columns=LAYOUT.columns, counts=COUNTS, about=LAYOUT.about, attributes={"model": "another"})
    abandon(tmp_path / "shard.h5", [4, 0])

    assert ShardWriter(tmp_path / "shard.h5", other).missing == (0, 1, 2, 3, 4)


def test_a_kill_between_the_last_steps_loses_nothing(tmp_path: Path, undisturbed: bytes) -> None:
    path = tmp_path / "shard.h5"
    path.write_bytes(undisturbed)
    path.rename(tmp_path / "shard.h5.part")  # complete, but not renamed
    abandon(tmp_path / "other.h5", [0, 1, 2, 3])
    (tmp_path / "other.h5.journal").rename(tmp_path / "shard.h5.journal")
    assert write(path) == undisturbed

    (tmp_path / "shard.h5.journal").write_bytes(b"stale")  # renamed, but the journal is still there
    assert ShardWriter(path, LAYOUT).missing == ()
    assert write(path, []) == undisturbed
    assert "shard.h5.journal" not in files(tmp_path)


def test_a_finished_shard_that_was_damaged_is_made_again(tmp_path: Path, undisturbed: bytes) -> None:
    path = tmp_path / "shard.h5"
    path.write_bytes(undisturbed)
    content = bytearray(undisturbed)
    content[open_shard(path, "").offsets["block_1"]] ^= 1
    path.write_bytes(content)

    assert ShardWriter(path, LAYOUT).missing == (0, 1, 2, 3, 4)
    assert write(path) == undisturbed


def test_a_really_killed_writer_leaves_what_it_flushed(tmp_path: Path) -> None:
    program = """
import sys; from pathlib import Path
from tests.features.test_writer import LAYOUT, ShardWriter, entries
writer = ShardWriter(Path(sys.argv[1]), LAYOUT, flush_rows=1)
for row in (2, 4):
    writer.write(row, entries(row))
print("written", flush=True)
input()
"""
    command = [sys.executable, "-c", program, str(tmp_path / "shard.h5")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "written\n"
        process.send_signal(signal.SIGKILL)

    assert ShardWriter(tmp_path / "shard.h5", LAYOUT).missing == (0, 1, 3)
    assert write(tmp_path / "shard.h5") == write(tmp_path / "undisturbed.h5")


def test_many_interruptions_end_in_the_same_bytes(tmp_path: Path, undisturbed: bytes) -> None:
    draw = random.Random(0)
    for number in range(20):
        path = tmp_path / f"shard{number}.h5"
        for _ in range(draw.randrange(4)):
            abandon(path, draw.sample(range(5), draw.randrange(5)))
            journal = path.with_name(f"{path.name}.journal")
            os.truncate(journal, max(0, journal.stat().st_size - draw.randrange(20)))
        assert write(path) == undisturbed


def test_finishing_too_early_and_wrong_arrays_are_refused(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path / "shard.h5", LAYOUT)

    with pytest.raises(ValueError, match="5 are not"):
        writer.finish()
    with pytest.raises(ValueError, match=r"row 1, block_1: expected \(1, 2\) <f2, got \(3, 2\) float16"):
        writer.write(1, entries(0))
    writer.close()


def test_a_reader_refuses_what_is_incomplete_cut_off_or_missing(tmp_path: Path, undisturbed: bytes) -> None:
    create_shard(tmp_path / "empty.h5", LAYOUT)
    (tmp_path / "cut.h5").write_bytes(undisturbed[:-10])
    (tmp_path / "text.h5").write_text("not a shard")

    for name, problem in (("empty", "is not complete"), ("cut", "is damaged"), ("text", "is damaged"), ("none", "is missing")):
        with pytest.raises(WeakClipError, match=f"{name}.h5 {problem}") as caught:
            ShardReader(tmp_path / f"{name}.h5", "do this")
        assert caught.value.hint == "do this"


def test_a_reader_names_the_damaged_row_and_reads_the_others(tmp_path: Path, undisturbed: bytes) -> None:
    path = tmp_path / "shard.h5"
    path.write_bytes(undisturbed)
    content = bytearray(undisturbed)
    content[open_shard(path, "").offsets["block_4"] + 4 * 6] ^= 1
    path.write_bytes(content)
    reader = ShardReader(path, "")

    reader.read(1)
    with pytest.raises(WeakClipError, match=r'shard.h5 is damaged: row 2 {"image_id": "photo2"} does not match'):
        reader.read(2)


@pytest.mark.parametrize("name", ["rows", "about"])
def test_a_reader_notices_damage_to_the_description(tmp_path: Path, undisturbed: bytes, name: str) -> None:
    path = tmp_path / "shard.h5"
    path.write_bytes(undisturbed)
    content = bytearray(undisturbed)
    content[open_shard(path, "").offsets[name] + 8] ^= 1
    path.write_bytes(content)

    with pytest.raises(WeakClipError, match=r"shard.h5 is damaged"):
        ShardReader(path, "")


def test_a_damaged_byte_never_changes_what_is_read(tmp_path: Path) -> None:
    layout = ShardLayout(columns=(Column(name="a", shape=(), dtype="<f2"),), counts=(2, 1), about=("{}", "[]"), attributes={})
    path = tmp_path / "shard.h5"
    writer = ShardWriter(path, layout)
    rows = (np.array([1, 2], "<f2"), np.array([3], "<f2"))
    for row, array in enumerate(rows):
        writer.write(row, {"a": array})
    writer.finish()
    sound = path.read_bytes()
    for place in range(0, len(sound), 11):
        content = bytearray(sound)
        content[place] ^= 0x10
        path.write_bytes(content)
        try:
            reader = ShardReader(path, "")
            read = [reader.read(row)["a"].copy() for row in range(2)]
        except WeakClipError:
            continue
        assert reader.layout.digest == layout.digest
        for array, expected in zip(read, rows, strict=True):
            np.testing.assert_array_equal(array, expected)
