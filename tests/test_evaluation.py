from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from weakclip.datasets.index import Record
from weakclip.errors import WeakClipError
from weakclip.evaluation import (
    changed_shares,
    class_rows,
    confusion_matrix,
    confusion_rows,
    intersection_over_union,
    mask_quality,
    mean_iou,
    score_masks,
    score_records,
    tag_recall,
)
from weakclip.masks import write_mask

TRUTH = np.array([[0, 0, 1], [1, 1, 255], [3, 3, 0]], np.uint8)
PREDICTION = np.array([[0, 1, 1], [1, 255, 2], [3, 0, 0]], np.uint8)


def record(image_id: str, *, split: str = "train", tags: tuple[int, ...] = (), mask: Path | None = None) -> Record:
    return Record(image_id=image_id, photo="unused.jpg", height=3, width=3, split=split, tags=tags, mask=mask and str(mask))


def write(folder: Path, **masks: np.ndarray) -> Path:
    folder.mkdir(exist_ok=True)
    for image_id, mask in masks.items():
        write_mask(folder / f"{image_id}.png", mask)
    return folder


def test_counts_are_those_counted_by_hand() -> None:
    assert confusion_matrix(PREDICTION, TRUTH, 4).tolist() == [[2, 1, 0, 0, 0], [0, 2, 0, 0, 1], [0] * 5, [1, 0, 0, 1, 0]]


def test_iou_and_its_mean_are_those_counted_by_hand() -> None:
    confusion = confusion_matrix(PREDICTION, TRUTH, 4)
    np.testing.assert_array_equal(intersection_over_union(confusion), [2 / 4, 2 / 4, np.nan, 1 / 2])
    assert mean_iou(confusion) == 0.5


def test_nothing_to_score_is_not_a_number() -> None:
    assert np.isnan(mean_iou(confusion_matrix(TRUTH, np.full_like(TRUTH, 255), 4)))


def test_a_class_that_is_only_predicted_counts_as_zero() -> None:
    truth, prediction = np.zeros((2, 2), np.uint8), np.array([[0, 0], [0, 1]], np.uint8)
    np.testing.assert_array_equal(intersection_over_union(confusion_matrix(prediction, truth, 3)), [0.75, 0, np.nan])


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    st.data(),
    st.integers(1, 255),
)
def test_counts_equal_a_plain_loop(data: st.DataObject, num_classes: int) -> None:
    values = st.sampled_from([*range(num_classes), 255])
    truth = data.draw(arrays(np.uint8, (4, 5), elements=values))
    prediction = data.draw(arrays(np.uint8, (4, 5), elements=values))
    expected = np.zeros((num_classes, num_classes + 1), np.int64)
    for true, predicted in zip(truth.ravel(), prediction.ravel(), strict=True):
        if true != 255:
            expected[true, min(predicted, num_classes)] += 1
    assert np.array_equal(confusion_matrix(prediction, truth, num_classes), expected)


def test_wrong_sizes_types_and_indices_are_refused() -> None:
    with pytest.raises(ValueError, match="expected one shape"):
        confusion_matrix(PREDICTION[1:], TRUTH, 4)
    with pytest.raises(ValueError, match="expected uint8 masks"):
        confusion_matrix(PREDICTION.astype(np.int64), TRUTH, 4)
    with pytest.raises(ValueError, match="the truth has index 3, expected 0 to 2 or 255"):
        confusion_matrix(np.zeros_like(TRUTH), TRUTH, 3)
    with pytest.raises(ValueError, match="the prediction has index 3"):
        confusion_matrix(PREDICTION, np.zeros_like(TRUTH), 3)


def test_counts_add_up_over_files_and_processes(tmp_path: Path) -> None:
    folder = write(tmp_path / "p", a=PREDICTION, b=TRUTH)
    truth = write(tmp_path / "t", a=TRUTH, b=TRUTH)
    expected = confusion_matrix(PREDICTION, TRUTH, 4) + confusion_matrix(TRUTH, TRUTH, 4)
    pairs = [(folder / f"{name}.png", truth / f"{name}.png") for name in "ab"] * 70
    assert np.array_equal(score_masks(pairs, 4), 70 * expected)
    assert np.array_equal(score_masks(iter(pairs), 4, workers=2), 70 * expected)
    assert np.array_equal(score_masks([(PREDICTION, TRUTH), (TRUTH, TRUTH)], 4), expected)
    assert not score_masks([], 4).any()


def test_a_file_that_does_not_fit_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "p", a=PREDICTION[1:])
    truth = write(tmp_path / "t", a=TRUTH)
    with pytest.raises(WeakClipError, match=r"p/a\.png against .*t/a\.png: expected one shape"):
        score_masks([(folder / "a.png", truth / "a.png")], 4)
    with pytest.raises(WeakClipError, match=r"b\.png is missing"):
        score_masks([(folder / "b.png", truth / "a.png")], 4)


def test_train_and_trainaug_are_reported_apart(tmp_path: Path) -> None:
    truth = write(tmp_path / "t", a=TRUTH, b=TRUTH)
    folder = write(tmp_path / "p", a=PREDICTION, b=np.where(TRUTH == 255, 0, TRUTH).astype(np.uint8))
    records = [
        record("a", mask=truth / "a.png"),
        record("b", split="trainaug", mask=truth / "b.png"),
        record("c"),
        record("d", split="val", mask=truth / "a.png"),
    ]
    assert mask_quality(records, folder, 4) == {
        "miou": 50.0,
        "split": "train",
        "n": 1,
        "miou_trainaug": 100.0,
        "n_trainaug": 1,
    }
    assert mask_quality(records[:1], folder, 4) == {"miou": 50.0, "split": "train", "n": 1}
    assert mask_quality(records[2:3], folder, 4) == {}


def test_each_image_has_its_own_score(tmp_path: Path) -> None:
    truth = write(tmp_path / "t", a=TRUTH, b=TRUTH)
    folder = write(tmp_path / "p", a=PREDICTION, b=TRUTH)
    records = [record("a", mask=truth / "a.png"), record("b", mask=truth / "b.png"), record("c")]
    _, scores = score_records(records, folder, 4)
    assert scores == {"a": 0.5, "b": 1.0}


def test_changed_pixels_are_counted_without_those_that_were_unsure_before(tmp_path: Path) -> None:
    before = np.array([[0, 1, 255, 2]], np.uint8)
    folder = write(tmp_path / "p", a=before, b=before, c=np.full_like(before, 255))
    other = write(tmp_path / "r", a=before, b=np.array([[0, 2, 1, 255]], np.uint8), c=before)
    shares = changed_shares([record("a"), record("b"), record("c")], folder, other, 4)
    assert (shares["a"], shares["b"]) == (0.0, pytest.approx(2 / 3))
    assert np.isnan(shares["c"])


def test_tag_recall_counts_tags_with_at_least_one_pixel(tmp_path: Path) -> None:
    folder = write(tmp_path / "p", a=PREDICTION, b=np.zeros_like(TRUTH))
    records = [record("a", tags=(1, 2)), record("b", tags=(1,)), record("c")]
    assert tag_recall(records, folder) == 66.67
    assert tag_recall(records[2:], folder) == 100.0


def test_rows_for_plots_leave_out_what_does_not_occur() -> None:
    confusion = confusion_matrix(PREDICTION, TRUTH, 4)
    names = ("background", "cat", "dog", "bird")
    perfect = confusion_matrix(TRUTH, TRUTH, 4)
    assert class_rows({"seed": confusion, "val": perfect}, names) == [
        {"class": "background", "seed": 50.0, "val": 100.0},
        {"class": "cat", "seed": 50.0, "val": 100.0},
        {"class": "dog"},
        {"class": "bird", "seed": 50.0, "val": 100.0},
    ]
    assert confusion_rows(confusion, names, at_least=0.4) == [
        {"actual": "background", "predicted": "background", "share": 0.6667},
        {"actual": "cat", "predicted": "cat", "share": 0.6667},
        {"actual": "bird", "predicted": "background", "share": 0.5},
        {"actual": "bird", "predicted": "bird", "share": 0.5},
    ]
    assert {"actual": "cat", "predicted": "unsure", "share": 0.3333} in confusion_rows(confusion, names)
