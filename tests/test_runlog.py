"""Figures and curves: stable bytes, and curves that survive an interruption."""

import json
from pathlib import Path

import numpy as np
import pytest

from weakclip.runlog import StepLog, read_metrics, write_metrics, write_rows


def test_metrics_keep_their_order_and_round_to_four_digits(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "metrics.json"
    val = {"miou": 62.123456, "n": np.int64(3), "scales": (1.0, 0.5), "flip": True}
    write_metrics(path, {"val": val, "a": np.float32(0.5)})
    text = """{
  "val": {
    "miou": 62.1235,
    "n": 3,
    "scales": [
      1.0,
      0.5
    ],
    "flip": true
  },
  "a": 0.5,
  "checksum": [
    "%s"
  ]
}
"""
    assert path.read_text() == text % json.loads(path.read_text())["checksum"][0]
    assert read_metrics(path, "evaluate") == {"val": {**val, "miou": 62.1235, "scales": [1.0, 0.5]}, "a": 0.5}
    assert [file.name for file in path.parent.iterdir()] == ["metrics.json"]


def test_numbers_that_json_lacks_are_null(tmp_path: Path) -> None:
    write_metrics(tmp_path / "m.json", {"a": float("nan"), "b": np.array([np.inf, 1.0])})
    assert read_metrics(tmp_path / "m.json", "evaluate") == {"a": None, "b": [None, 1.0]}


def test_metrics_refuse_what_is_no_figure(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        write_metrics(tmp_path / "m.json", {"path": tmp_path})
    assert not (tmp_path / "m.json").exists()


def test_read_only_file_of_dvc_is_replaced_not_written_into(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text("{}")
    path.chmod(0o444)
    (tmp_path / "cached.json").hardlink_to(path)
    write_metrics(path, {"a": 1})
    assert (tmp_path / "cached.json").read_text() == "{}"


@pytest.mark.parametrize("rows", [[], [{"class": "cat", "iou": 0.5}, {"class": "Möwe", "iou": float("nan")}]])
def test_rows_are_a_list_of_objects(tmp_path: Path, rows: list[dict[str, object]]) -> None:
    write_rows(tmp_path / "r.json", rows)
    read = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert [row["class"] for row in read] == [row["class"] for row in rows]


def train(folder: Path, first: int, last: int) -> None:
    """Log as the training loop does: two calls for a step that is validated as well."""
    log = StepLog(folder)
    log.resume(first)
    for step in range(first + 1, last + 1):
        log.log(step, {"seeding_loss": 1 / step, "learning_rate": np.float32(0.1)})
        if step % 2 == 0:
            log.log(step, {"held_out_agreement": 10.0 * step})
    log.close()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("log") / "plots"
    train(folder, 0, 6)
    return folder


def test_curves_have_a_table_each_and_nothing_lies_beside_them(undisturbed: Path) -> None:
    tables = contents(undisturbed.parent)
    assert sorted(tables) == [f"plots/metrics/{name}.tsv" for name in ("held_out_agreement", "learning_rate", "seeding_loss")]
    assert tables["plots/metrics/seeding_loss.tsv"].startswith(b"step\tseeding_loss\n1\t1.0\n2\t0.5\n3\t0.333333\n")
    assert tables["plots/metrics/held_out_agreement.tsv"] == b"step\theld_out_agreement\n2\t20.0\n4\t40.0\n6\t60.0\n"


@pytest.mark.parametrize("checkpoint", [0, 3, 4])
def test_interrupted_and_resumed_curves_are_the_same_bytes(tmp_path: Path, undisturbed: Path, checkpoint: int) -> None:
    folder = tmp_path / "plots"
    train(folder, 0, 5)
    train(folder, checkpoint, 6)
    assert contents(folder) == contents(undisturbed)


def test_row_that_was_cut_off_is_dropped(tmp_path: Path, undisturbed: Path) -> None:
    folder = tmp_path / "plots"
    train(folder, 0, 5)
    with (folder / "metrics" / "seeding_loss.tsv").open("a") as file:
        file.write("6")
    train(folder, 5, 6)
    assert contents(folder) == contents(undisturbed)


@pytest.mark.parametrize("head", ["", "step\tval_mi"])
def test_table_that_got_no_whole_head_is_begun_anew(tmp_path: Path, undisturbed: Path, head: str) -> None:
    folder = tmp_path / "plots"
    train(folder, 0, 1)
    (folder / "metrics" / "held_out_agreement.tsv").write_text(head)  # the first of its rows was being written
    train(folder, 1, 6)
    assert contents(folder) == contents(undisturbed)


def test_curves_are_shown_as_they_grow(tmp_path: Path) -> None:
    folder, shown = tmp_path / "slot" / "plots", tmp_path / "results" / "plots"
    (shown / "metrics").mkdir(parents=True)
    (shown / "metrics" / "of_an_earlier_run.tsv").touch()
    log = StepLog(folder, shown=shown)
    assert not shown.exists()
    for step in range(1, 4):
        log.log(step, {"seeding_loss": 1 / step})
        assert contents(shown) == contents(folder)
    log.log(4, {"learning_rate": 0.1})
    assert contents(shown) == contents(folder) and len(contents(shown)) == 2
    log.close()
    log = StepLog(folder, shown=shown)  # killed, and its checkpoint stands at 2
    log.resume(2)
    assert contents(shown) == contents(folder)
    assert contents(shown)["metrics/seeding_loss.tsv"] == b"step\tseeding_loss\n1\t1.0\n2\t0.5\n"
    log.close()


def test_curves_that_are_shown_do_not_share_their_bytes_with_the_slot(tmp_path: Path) -> None:
    folder, shown = tmp_path / "slot" / "plots", tmp_path / "results" / "plots"
    log = StepLog(folder, shown=shown)
    log.log(1, {"seeding_loss": 1.0})
    before = contents(folder)
    (shown / "metrics" / "seeding_loss.tsv").write_text("of another experiment, from DVC's cache")
    assert contents(folder) == before
    log.log(2, {"seeding_loss": 0.5})
    assert contents(shown) == contents(folder)
    log.close()


def test_folder_of_another_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="plots"):
        StepLog(tmp_path / "curves")
