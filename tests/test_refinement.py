import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from weakclip import refinement
from weakclip.crf import CrfKernel
from weakclip.datasets.index import Record
from weakclip.errors import WeakClipError
from weakclip.masks import read_mask
from weakclip.par import ParKernel
from weakclip.refinement import Refinement, refine, refine_all
from weakclip.scores import ScoreStore, ScoreWriter

KERNEL = CrfKernel(gaussian_sxy=1, gaussian_compat=3, bilateral_sxy=20, bilateral_srgb=13, bilateral_compat=10, iterations=10)
# Nothing pulls pixels together: the result is the input.
NO_KERNEL = CrfKernel(gaussian_sxy=1, gaussian_compat=0, bilateral_sxy=1, bilateral_srgb=1, bilateral_compat=0, iterations=1)
PHOTO = np.zeros((2, 2, 3), np.uint8)
CLASSES = np.array([0, 2, 5])
PROBABILITIES = np.array([[[0.1, 0.6], [0.2, 0.3]], [[0.2, 0.1], [0.7, 0.2]], [[0.7, 0.3], [0.1, 0.5]]], np.float16)


def make_world(folder: Path, count: int = 20) -> tuple[list[Record], Path]:
    """Photos of a bright square on a dark ground, and noisy scores of background, the square's class 3 and class 1."""
    rng = np.random.default_rng(0)
    records = []
    writer = ScoreWriter(folder / "scores", [f"image_{number:02d}" for number in range(count)], {}, images_per_shard=6)
    for number in range(count):
        truth = np.zeros((24, 24 + number), bool)
        truth[6:18, 6:18] = True
        photo = folder / f"image_{number:02d}.png"
        Image.fromarray(np.where(truth, 210, 50).astype(np.uint8)).convert("RGB").save(photo)
        square = np.clip(0.4 + 0.2 * truth + 0.2 * rng.standard_normal(truth.shape), 0, 1)
        writer.write(photo.stem, [0, 1, 3], np.stack([0.7 * (1 - square), 0.3 * (1 - square), square]))
        size = {"height": 24, "width": 24 + number}
        records.append(Record(image_id=photo.stem, photo=str(photo), split="train", tags=(3,), mask=None, **size))
    writer.finish()
    return records, folder / "scores"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.glob("*/*.png"))}


SETTINGS = Refinement(kernel=KERNEL, tag_limited=True, gate=0.95)


def test_winners_are_class_indices_and_unsure_pixels_are_gated() -> None:
    mask, gated, statistics = refine(PHOTO, CLASSES, PROBABILITIES, kernel=NO_KERNEL, tags=(2,), tag_limited=False, gate=0.55)
    assert mask.tolist() == [[5, 0], [2, 5]]
    assert gated.tolist() == [[5, 0], [2, 255]]
    assert (statistics.pixels, statistics.changed, statistics.kept) == (4, 0, 3)
    assert statistics.confidence == pytest.approx(0.7 + 0.6 + 0.7 + 0.5, abs=2e-3)


def test_tag_limiting_leaves_background_and_the_tags() -> None:
    mask, _, statistics = refine(PHOTO, CLASSES, PROBABILITIES, kernel=NO_KERNEL, tags=(2,), tag_limited=True, gate=0.0)
    assert mask.tolist() == [[2, 0], [2, 0]]
    assert statistics.changed == 0


def test_par_refines_in_place_of_the_crf() -> None:
    photo = np.full((12, 12, 3), 60, np.uint8)
    photo[:, 6:] = 180
    square = np.full((12, 12), 0.2, np.float32)
    square[:, 7:] = 0.8  # one column off
    kernel = ParKernel(dilations=(1, 2, 4), iterations=10)
    mask, gated, statistics = refine(
        photo, np.array([0, 3]), np.stack([1 - square, square]), kernel=kernel, tags=(3,), tag_limited=True, gate=0.6
    )
    assert (mask[:, 6:] == 3).all() and not mask[:, :6].any()
    assert statistics.changed == 12
    assert 0 < statistics.kept == np.count_nonzero(gated != 255)


def test_without_tags_all_is_background() -> None:
    mask, gated, statistics = refine(PHOTO, CLASSES, PROBABILITIES, kernel=KERNEL, tags=(), tag_limited=True, gate=0.95)
    assert not mask.any()
    assert not gated.any()
    assert statistics.confidence == 4


def test_with_no_class_left_all_is_background_and_nothing_is_sure() -> None:
    mask, gated, statistics = refine(
        PHOTO, CLASSES[1:], PROBABILITIES[1:], kernel=KERNEL, tags=(4,), tag_limited=True, gate=0.95
    )
    assert not mask.any()
    assert (gated == 255).all()
    assert (statistics.confidence, statistics.changed, statistics.kept) == (0, 0, 0)


def test_changed_counts_pixels_that_the_crf_moved_to_another_class() -> None:
    photo = np.full((9, 9, 3), 100, np.uint8)
    background = np.full((9, 9), 0.9)
    background[4, 4] = 0.4
    scores = np.stack([background, 1 - background])
    mask, _, statistics = refine(photo, np.array([0, 1]), scores, kernel=KERNEL, tags=(1,), tag_limited=True, gate=0.5)
    assert not mask.any()
    assert statistics.changed == 1


def test_scores_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected probabilities of \(3, 3, 2\)"):
        refine(np.zeros((3, 2, 3), np.uint8), CLASSES, PROBABILITIES, kernel=KERNEL, tags=(), tag_limited=False, gate=0)


def test_a_whole_run_does_not_depend_on_the_number_of_processes(tmp_path: Path) -> None:
    records, scores = make_world(tmp_path)
    alone = refine_all(records, scores, tmp_path / "one", SETTINGS, workers=1)
    assert refine_all(records, scores, tmp_path / "two", SETTINGS, workers=2) == alone
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert len(contents(tmp_path / "one")) == 2 * len(records)
    assert alone.pixels == sum(record.height * record.width for record in records)
    assert alone.changed > 0
    expected = np.zeros((24, 30), np.uint8)
    expected[6:18, 6:18] = 3
    assert (read_mask(tmp_path / "one/refined/image_06.png") == expected).mean() > 0.98


def test_an_interrupted_run_is_continued_with_the_same_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records, scores = make_world(tmp_path)
    whole = refine_all(records, scores, tmp_path / "whole", SETTINGS, workers=1)
    refine_all(records[:9], scores, tmp_path / "halves", SETTINGS, workers=1)
    refined: list[str] = []
    original = refinement._refine_record

    def counted(record: Record, *others: object) -> refinement.RefinementStatistics:
        refined.append(record.image_id)
        return original(record, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(refinement, "_refine_record", counted)
    # What a kill leaves: an image begun, a line of the journal cut off.
    (tmp_path / "halves/working/7 image_12").mkdir(parents=True)
    journal = tmp_path / "halves/statistics.jsonl"
    journal.write_bytes(journal.read_bytes()[:-20])
    assert refine_all(records, scores, tmp_path / "halves", SETTINGS, workers=1) == whole
    assert refined == [record.image_id for record in records[8:]]
    assert contents(tmp_path / "halves") == contents(tmp_path / "whole")


def test_a_process_opens_scores_once_and_anew_when_they_were_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their index names all images: opened for every few of them, the work would grow with the square of their number."""
    opened: list[Path] = []

    class Counted(ScoreStore):
        def __init__(self, folder: Path) -> None:
            opened.append(folder)
            super().__init__(folder)

    monkeypatch.setattr(refinement, "ScoreStore", Counted)
    records, scores = make_world(tmp_path)
    refine_all(records, scores, tmp_path / "first", SETTINGS, workers=1)
    assert opened == [scores]
    shutil.rmtree(scores)
    make_world(tmp_path, count=3)
    refine_all(records[:3], scores, tmp_path / "second", SETTINGS, workers=1)
    assert opened == [scores, scores]


def test_scores_that_do_not_fit_the_photo_are_reported_with_its_name(tmp_path: Path) -> None:
    records, scores = make_world(tmp_path, count=2)
    Image.new("RGB", (9, 9)).save(records[1].photo)
    with pytest.raises(WeakClipError, match=r"image_01\.png does not fit its class scores") as caught:
        refine_all(records, scores, tmp_path / "out", SETTINGS, workers=1)
    assert "generate_masks" in caught.value.hint


def test_a_process_of_a_killed_run_may_still_be_at_the_same_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends a second after its stage; what it does until then must not stop the next run."""
    records, scores = make_world(tmp_path, count=3)
    original = refinement._refine_record

    def beside_another(record: Record, store: ScoreStore, folder: str, settings: Refinement) -> object:
        other = Path(folder, "working", f"{os.getppid()} {record.image_id}")
        other.mkdir()
        (other / "refined.png.part").write_bytes(b"half")
        return original(record, store, folder, settings)

    whole = refine_all(records, scores, tmp_path / "whole", SETTINGS, workers=1)
    monkeypatch.setattr(refinement, "_refine_record", beside_another)
    assert refine_all(records, scores, tmp_path / "out", SETTINGS, workers=1) == whole
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert not (tmp_path / "out" / "working").exists()


def killed(records: Sequence[Record], store: ScoreStore, folder: str, settings: Refinement) -> None:
    Path(folder, "working", f"{os.getpid()} {records[0].image_id}").mkdir()
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_is_reported_with_its_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records, scores = make_world(tmp_path, count=2)
    monkeypatch.setattr(refinement, "_refine_records", killed)
    with pytest.raises(WeakClipError, match=r"a worker process died .* while it refined image_00$") as caught:
        refine_all(records, scores, tmp_path / "out", SETTINGS, workers=2)
    assert "WEAKCLIP_WORKERS=1" in caught.value.hint
    monkeypatch.undo()
    refine_all(records, scores, tmp_path / "out", SETTINGS, workers=2)
    assert len(contents(tmp_path / "out")) == 4
