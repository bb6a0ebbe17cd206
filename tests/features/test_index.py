import json
import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from weakclip.features.index import MAPPED, ShardFolder, shard_name, write_index
from weakclip.features.shards import Column, ShardLayout
from weakclip.features.writer import ShardWriter
from weakclip.image_figures import ImageFigures, ImageIds

SHARDS, ROWS = MAPPED + 14, 400
NUMBERS = Column(name="numbers", shape=(4,), dtype="<f4")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("features")
    names = [f"tiny_{number:08d}" for number in range(SHARDS * ROWS)]
    for shard in range(SHARDS):
        about = tuple(json.dumps({"image_id": name}) for name in names[shard * ROWS : (shard + 1) * ROWS])
        layout = ShardLayout(columns=(NUMBERS,), counts=(2,) * ROWS, about=about, attributes={"model": "mini"})
        writer = ShardWriter(folder / shard_name(shard), layout, flush_rows=ROWS, flush_seconds=1e9)
        for row in range(ROWS):
            writer.write(row, {"numbers": np.full((2, 4), shard * ROWS + row, "<f4")})
        writer.finish()
    write_index(folder, {"model": "mini"}, [ROWS] * SHARDS, ImageFigures(ImageIds(names), np.arange(len(names))))
    return folder


def mapped_shards() -> int:
    """How many shards this process has pages of."""
    kept, name = set(), ""
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            name = line.split()[-1]
        elif line.startswith("Rss:") and int(line.split()[1]) and "/shard-" in name:
            kept.add(name)
    return len(kept)


def test_of_the_rows_of_open_shards_next_to_nothing_is_kept(folder: Path) -> None:
    shards = ShardFolder(folder, "")
    shards.read(0)
    tracemalloc.start()
    for shard in range(SHARDS):
        shards.read(shard * ROWS)
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()

    assert kept < 25 * SHARDS * ROWS  # the text that says what the row is has 29 bytes


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs Linux")
def test_a_row_that_is_let_go_takes_no_memory(tmp_path: Path) -> None:
    wide = Column(name="numbers", shape=(1024,), dtype="<f4")
    layout = ShardLayout(columns=(wide,), counts=(64,) * 8, about=("{}",) * 8, attributes={})
    writer = ShardWriter(tmp_path / shard_name(0), layout, flush_rows=8, flush_seconds=1e9)
    for row in range(8):
        writer.write(row, {"numbers": np.full((64, 1024), row, "<f4")})
    writer.finish()
    write_index(tmp_path, {}, [8], ImageFigures(ImageIds("abcdefgh"), np.arange(8)))
    shards = ShardFolder(tmp_path, "")
    held = []
    for row in range(8):
        window = shards.read(row)["numbers"]
        assert (window == row).all()
        shards.let_row_go(row)
        held.append(mapped_bytes(tmp_path))
    assert max(held) < 4 * 64 * 1024 * 4  # the kernel maps some pages around those that are asked for
    assert (window == 7).all()


def mapped_bytes(folder: Path) -> int:
    """Memory that the shards' pages take in this process."""
    kept, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            inside = str(folder) in line
        elif inside and line.startswith("Rss:"):
            kept += 1024 * int(line.split()[1])
    return kept


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs Linux")
def test_shards_that_are_closed_are_not_kept_mapped(folder: Path) -> None:
    before = mapped_shards()
    shards = ShardFolder(folder, "", open_at_most=2)
    for row in range(0, len(shards), ROWS):
        shards.read(row)

    assert mapped_shards() - before <= 2


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs Linux")
def test_pages_of_a_few_shards_stay_mapped(folder: Path) -> None:
    shards = ShardFolder(folder, "")
    before = mapped_shards()
    windows = [shards.read(row)["numbers"] for row in range(0, len(shards), ROWS // 2)]

    assert mapped_shards() - before <= MAPPED
    # What was let go is read again, by a window that was handed out before and by a new one.
    assert [window[0, 0] for window in windows] == [*range(0, len(shards), ROWS // 2)]
    assert shards.read(1)["numbers"].tolist() == [[1.0] * 4] * 2
    assert shards.about(ROWS)["image_id"] == f"tiny_{ROWS:08d}"
    assert shards.count(ROWS) == 2
