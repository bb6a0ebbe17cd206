"""Any folder of masks against any other."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from stages.cli import app
from stages.score import main
from weakclip.errors import WeakClipError
from weakclip.masks import write_mask

TRUTH = np.array([[0, 0, 1], [1, 1, 255], [3, 3, 0]], np.uint8)
MASK = np.array([[0, 1, 1], [1, 255, 2], [3, 0, 0]], np.uint8)


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    monkeypatch.setenv("WEAKCLIP_WORKERS", "1")
    masks, truth = tmp_path / "masks", tmp_path / "truth"
    for folder, mask in ((masks, MASK), (truth, TRUTH)):
        folder.mkdir()
        write_mask(folder / "a.png", mask)
    write_mask(truth / "b.png", TRUTH)
    (tmp_path / "classes.txt").write_text("cat\ndog\nbird\n")
    return masks, truth


def run(masks: Path, truth: Path, *more: str) -> str:
    command = ["score", "--masks", str(masks), "--truth", str(truth), "--classes", str(masks.parent / "classes.txt"), *more]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_figures_are_those_counted_by_hand(folders: tuple[Path, Path], tmp_path: Path) -> None:
    # background: 2 of both, 1 only predicted, 1 only true; cat: 2, 1, 1 (a pixel predicted as 255); bird: 1, 0, 1
    lines = run(*folders, "--out", str(tmp_path / "figures.json")).splitlines()
    assert lines == [
        "scoring 1 images",
        f"  not scored: 1 masks of {folders[1]} that the other folder has none for",
        "     class      IoU       FP       FN",
        "background   50.000   25.000   25.000",
        "       cat   50.000   25.000   25.000",
        "       dog        -        -        -",
        "      bird   50.000    0.000   50.000",
        "mIoU   50.000  FP   16.667  FN   33.333",
    ]
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["n"] == 1 and figures["mean_iou"] == 50 and figures["mean_false_negatives"] == 33.3333
    assert figures["classes"]["dog"] == {"iou": None, "false_positives": None, "false_negatives": None}


def test_a_list_is_scored_whole_or_not_at_all(folders: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a\n")
    assert "not scored" not in run(*folders, "--list", str(tmp_path / "list.txt"))
    (tmp_path / "list.txt").write_text("a\nb\n")
    with pytest.raises(WeakClipError, match=r"masks is missing 1 of the 2 images .*\(first: b\.png\)"):
        run(*folders, "--list", str(tmp_path / "list.txt"))


def test_folders_without_a_common_name_are_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(WeakClipError, match="holds no PNG"):
        main(tmp_path, folders[1], "voc12")
    (tmp_path / "other").mkdir()
    write_mask(tmp_path / "other" / "c.png", MASK)
    with pytest.raises(WeakClipError, match="no file name in common"):
        main(tmp_path / "other", folders[1], "voc12")


def test_an_index_beyond_the_classes_is_named(folders: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("cat\n")
    with pytest.raises(WeakClipError, match=r"a\.png against .*the truth has index 3"):
        run(*folders)
