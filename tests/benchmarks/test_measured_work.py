"""What is measured does what its name says."""

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from benchmarks import caching, crf, growth, mask_generation, scoring, store, train_step
from benchmarks.__main__ import growth_rows
from benchmarks.growth import Measured, table
from benchmarks.rows import Row, content, write_json
from benchmarks.samples import draw_dataset, draw_mask, draw_photo, draw_probabilities
from benchmarks.scoring import count_by_loops
from weakclip.datasets.voc12 import CLASSES
from weakclip.evaluation import confusion_matrix
from weakclip.images import read_photo
from weakclip.masks import read_mask


def test_loops_over_classes_count_what_the_project_counts() -> None:
    truth, prediction = draw_mask(1, 30, 40, (2, 5)), draw_mask(2, 30, 40, (2, 7))
    prediction[prediction == 255] = 2
    confusion = confusion_matrix(prediction, truth, 8)
    hits, predicted, true = count_by_loops([(prediction, truth)], 8)
    assert hits.sum() > 0
    np.testing.assert_array_equal(hits, np.diagonal(confusion))
    np.testing.assert_array_equal(predicted, confusion[:, :8].sum(axis=0))
    np.testing.assert_array_equal(true, confusion.sum(axis=1))


def test_samples_are_the_same_every_time_and_no_two_are_alike(tmp_path: Path) -> None:
    dataset = draw_dataset(tmp_path, 2, height=24, width=32, classes=CLASSES)
    first, second = dataset.records
    assert np.array_equal(draw_photo(0, 24, 32), draw_photo(0, 24, 32))
    assert not np.array_equal(read_photo(first.photo), read_photo(second.photo))
    assert first.mask is not None and {*np.unique(read_mask(first.mask))} <= {0, 255, *first.tags}
    assert first.tags == (1, 2) and second.tags == (3, 4)


def test_every_class_of_the_probabilities_wins_somewhere() -> None:
    probabilities = draw_probabilities(0, draw_mask(0, 375, 500, (1, 2)), 21)
    assert set(np.unique(probabilities.argmax(axis=0))) == {*range(21)}
    np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-5)


def test_rows_of_growth_are_held_against_flat_and_stay_when_other_parts_are_measured(tmp_path: Path) -> None:
    measured = [Measured(images=n, seconds=1.0, start_bytes=1e6, peak_bytes=peak) for n, peak in ((10, 100e6), (1000, 102e6))]
    (row,) = growth.rows({"refine": measured})
    assert (row.name, row.ratio, row.met) == ("growth_refine", 1.02, False)
    write_json(tmp_path / "results.json", content([row, Row(name="store_read", ratio=1.0, spread=None, bar=None)]))
    assert growth_rows(tmp_path / "results.json") == [row]
    assert growth_rows(tmp_path / "none.json") == []


def test_growth_is_shown_by_image_and_in_all() -> None:
    steps = {
        "refine": [
            Measured(images=1000, seconds=1.0, start_bytes=1e6, peak_bytes=100e6),
            Measured(images=100000, seconds=120.0, start_bytes=1e6, peak_bytes=150e6),
        ]
    }
    lines = [line.split() for line in table(steps).splitlines()]
    assert lines[1] == ["refine,", "ms", "an", "image", "1", "1.2", "1.20"]
    assert lines[2] == ["refine,", "MB", "100", "150", "1.50"]
    assert lines[3] == ["refine,", "bytes", "an", "image", "more", "505"]
    assert lines[4] == ["refine,", "MB", "since", "its", "start", "99", "149"]


@pytest.mark.parametrize("part", [caching, crf, mask_generation, scoring, store, train_step])
def test_every_part_runs_at_its_small_size(part: ModuleType) -> None:
    rows = part.measure(quick=True, rounds=1)
    assert rows and all(row.ratio > 0 for row in rows)
    json.dumps(content(rows))
    differing = [row.details["labels_that_differ"] for row in rows if row.name == "crf_torch"]
    assert all(share < 1e-3 for share in differing) and len(differing) == (part is crf)
