"""Round trips and refusals for whatever hypothesis thinks of: parameters, tables of tags, masks, stored rows."""

from __future__ import annotations

import csv
import io
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from ruamel.yaml import YAML

from weakclip import params
from weakclip.datasets.index import ClassList, Dataset, Record, read_dataset, write_dataset
from weakclip.datasets.labels import PhotoNames, read_classes, read_tags
from weakclip.errors import WeakClipError
from weakclip.features.shards import Column, ShardLayout, ShardReader
from weakclip.features.writer import ShardWriter
from weakclip.masks import read_mask, write_mask

NAMES = tuple(params.names())
PRESET = Path(params.__file__).parent / "presets" / "mini.yaml"
CLASSES = ClassList(names=("cat", "dog", "sofa"), synonyms=((), ("puppy",), ()), background_words=())
PHOTOS = PhotoNames(f"{name}.jpg" for name in "abc")

words = st.text(st.characters(blacklist_categories=("Cc", "Cs", "Zl", "Zp"), blacklist_characters=",;:#["), min_size=1)
plain = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8)
values = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=2)
)


@given(name=st.sampled_from(NAMES), value=values)
@settings(max_examples=40)
def test_any_value_of_a_parameter_is_taken_or_refused_by_its_name(name: str, value: object) -> None:
    document = YAML(typ="safe", pure=True).load(PRESET.read_text(encoding="utf-8"))
    *sections, key = name.split(".")
    place = document
    for section in sections:
        place = place[section]
    place[key] = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "params.yaml"
        with path.open("w", encoding="utf-8") as file:
            YAML(typ="safe", pure=True).dump(document, file)
        try:
            params.load(path)
        except WeakClipError as error:
            assert "params.yaml" in error.problem and error.hint


@given(content=st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_file_of_parameters_that_is_none_is_refused(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "params.yaml").write_bytes(content)
        try:
            params.load(Path(folder) / "params.yaml")
        except WeakClipError as error:
            assert "params.yaml" in error.problem and error.hint
        else:
            raise AssertionError("it was taken")


cells = st.sampled_from(
    ["image", "tags", "a", "b.jpg", "c", "cat", "dog;cat", "", " ", "x", '"', '"a', "/a", "../a"]
) | st.text(max_size=6)
tables = st.lists(st.lists(cells, max_size=3).map(",".join), max_size=6).map("\n".join)


@given(content=tables.map(str.encode) | tables.map(lambda text: f"image,tags\n{text}".encode()) | st.binary(max_size=40))
@settings(max_examples=200)
def test_any_table_of_tags_is_read_or_refused_with_its_lines(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tags.csv"
        path.write_bytes(content)
        try:
            listed = read_tags(path, CLASSES, PHOTOS, skip_missing=True)
        except WeakClipError as error:
            assert str(path) in error.problem and "line " in error.problem
        else:
            assert listed.entries.keys() <= {"a", "b", "c"}
            assert all(set(tags) <= {1, 2, 3} and list(tags) == sorted(set(tags)) for tags in listed.entries.values())


@given(rows=st.dictionaries(st.sampled_from("abc"), st.sets(st.sampled_from(CLASSES.names))))
def test_tags_that_a_spreadsheet_writes_are_those_that_are_read(rows: dict[str, set[str]]) -> None:
    file = io.StringIO(newline="")
    csv.writer(file).writerows([("image", "tags"), *((name, ";".join(tags)) for name, tags in rows.items())])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tags.csv"
        path.write_text(file.getvalue(), encoding="utf-8", newline="")
        found = read_tags(path, CLASSES, PHOTOS, skip_missing=False).entries
    assert found == {name: tuple(sorted(1 + CLASSES.names.index(tag) for tag in tags)) for name, tags in rows.items()}


@given(ids=st.sets(words, min_size=1, max_size=4), names=st.sets(words, min_size=1, max_size=3))
def test_an_index_with_any_names_comes_back(ids: set[str], names: set[str]) -> None:
    classes = ClassList(names=tuple(sorted(names)), synonyms=((),) * len(names), background_words=())
    records = tuple(
        Record(image_id=name, photo=f"p/{name}", height=8, width=9, split="train", tags=(len(names),), mask=None)
        for name in sorted(ids)
    )
    dataset = Dataset(name="folder", classes=classes, records=records)
    with tempfile.TemporaryDirectory() as folder:
        write_dataset(dataset, Path(folder))
        assert read_dataset(Path(folder)) == dataset


@given(content=st.text(max_size=40).map(str.encode) | st.binary(max_size=40))
def test_any_class_list_is_read_or_refused(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "classes.txt"
        path.write_bytes(content)
        try:
            assert all(name == name.strip() and name for name in read_classes(path).names)
        except WeakClipError as error:
            assert str(path) in error.problem


@given(mask=arrays.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40))))
def test_any_mask_comes_back_and_has_the_same_bytes_again(mask: np.ndarray) -> None:  # type: ignore[type-arg]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.png"
        write_mask(path, mask)
        first = path.read_bytes()
        np.testing.assert_array_equal(read_mask(path), mask)
        write_mask(path, read_mask(path))
        assert path.read_bytes() == first


@given(data=st.data(), counts=st.lists(st.integers(1, 5), min_size=1, max_size=4), shape=st.sampled_from([(), (3,), (2, 2)]))
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
def test_any_rows_of_a_store_come_back_to_the_bit(data: st.DataObject, counts: list[int], shape: tuple[int, ...]) -> None:
    columns = (Column(name="a", shape=shape, dtype="<f2"), Column(name="b", shape=(2,), dtype="<i4", once_a_row=True))
    about = tuple(f'{{"row": {row}}}' for row in range(len(counts)))
    layout = ShardLayout(columns=columns, counts=tuple(counts), about=about, attributes={"kind": "test"})
    rows = [
        {
            "a": data.draw(arrays.arrays("<u2", (count, *shape))).view("<f2"),  # NaN with any bits among them
            "b": data.draw(arrays.arrays("<i4", (1, 2))),
        }
        for count in counts
    ]
    with tempfile.TemporaryDirectory() as folder:
        writer = ShardWriter(Path(folder) / "s.h5", layout)
        for row in data.draw(st.permutations(range(len(counts)))):
            writer.write(row, rows[row])
        writer.finish()
        reader = ShardReader(Path(folder) / "s.h5", "")
        for row, expected in enumerate(rows):
            assert {name: array.tobytes() for name, array in reader.read(row).items()} == {
                name: array.tobytes() for name, array in expected.items()
            }
