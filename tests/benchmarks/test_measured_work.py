"""What is measured does what its name says."""

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from benchmarks import caching, crf, growth, mask_generation, micro_batches, scoring, store, train_step
from benchmarks.__main__ import growth_rows
from benchmarks.growth import Measured, table
from benchmarks.kept import keep
from benchmarks.rows import Row, content
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
    measured = [
        Measured(images=images, seconds=seconds, start_bytes=1e6, peak_bytes=peak)
        for images, seconds, peak in ((10, 5.0, 100e6), (1000, 10.0, 101e6), (100000, 1200.0, 103e6))
    ]
    memory, time = growth.rows({"refine": measured}, {"refine": 0.01})
    assert (memory.name, memory.ratio, memory.spread, memory.met) == ("growth_refine", 1.03, 0.01, False)
    assert (time.name, time.ratio, time.met) == ("growth_refine_time", pytest.approx(1.2), False)
    results = tmp_path / "results.json"
    assert growth_rows(results) == []
    keep(results, [memory, Row(name="store_read", ratio=1.0, spread=None, bar=None)])
    assert growth_rows(results) == [memory]


def test_of_several_runs_the_medians_count_and_the_spread_is_told() -> None:
    runs = [Measured(images=10, seconds=s, start_bytes=s, peak_bytes=100 * s) for s in (3.0, 1.0, 2.0)]
    assert growth.typical(runs) == runs[2]
    assert growth.spread([99.0, 100.0, 103.0]) == 0.04


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


@pytest.mark.parametrize("part", [caching, crf, mask_generation, micro_batches, scoring, store, train_step])
def test_every_part_runs_at_its_small_size(part: ModuleType) -> None:
    rows = part.measure(quick=True, rounds=1)
    assert rows and all(row.ratio > 0 for row in rows)
    json.dumps(content(rows))
    differing = [row.details["labels_that_differ"] for row in rows if row.name == "crf_torch"]
    assert all(share < 1e-3 for share in differing) and len(differing) == (part is crf)
