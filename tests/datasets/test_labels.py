"""Text files written by hand: what is tolerated, and that all problems of a file come in one error."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from weakclip.datasets.index import ClassList
from weakclip.datasets.labels import PhotoNames, read_classes, read_split, read_tags
from weakclip.errors import WeakClipError

CLASSES = ClassList(names=("cat", "dog", "sofa"), synonyms=((), ("puppy",), ("couch",)), background_words=())
PHOTOS = PhotoNames(("a.jpg", "b.PNG", "far/away/c.jpeg", "d.v2.jpg", "Käse.jpg"))


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def tags(path: Path, content: str | bytes) -> dict[str, tuple[int, ...]]:
    return read_tags(write(path, content), CLASSES, PHOTOS, skip_missing=False).entries


def problem(path: Path, content: str | bytes) -> str:
    with pytest.raises(WeakClipError) as info:
        tags(path, content)
    assert info.value.problem.startswith(str(path))
    return info.value.problem.removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    ("name", "image_id"),
    [
        ("a", "a"),
        ("a.jpg", "a"),
        (" a.JPG ", "a"),
        ("images/a.jpg", "a"),
        ("./a.jpg", "a"),
        ("b.png", "b"),
        ("far/away/c", "c"),
        ("far\\away\\c.jpeg", "c"),
        ("c.jpeg", "c"),
        ("d.v2", "d.v2"),
        ("d.v2.jpg", "d.v2"),
        (unicodedata.normalize("NFD", "Käse.jpg"), "Käse"),
        ("a.png", None),
        ("near/c.jpeg", None),
        ("", None),
    ],
)
def test_a_photo_is_found_by_name_with_or_without_folder_and_ending(name: str, image_id: str | None) -> None:
    assert PHOTOS.find(name) == image_id


@pytest.mark.parametrize("name", ["/home/me/a.jpg", "C:\\photos\\a.jpg", "../a.jpg", "far/../a.jpg"])
def test_absolute_paths_and_ways_out_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"absolute|leaves"):
        PHOTOS.find(name)


def test_tags_are_sorted_indices(tmp_path: Path) -> None:
    assert tags(tmp_path / "tags.csv", "image,tags\na.jpg,sofa;cat\nb,dog\nc,\n") == {"a": (1, 3), "b": (2,), "c": ()}


@pytest.mark.parametrize(
    "content",
    [
        "\ufeffimage,tags\r\na.jpg,cat;dog\r\n\r\n",
        'image,tags\n"a.jpg","cat;dog"',
        "Image , Tags\n a.jpg , cat ; dog ;\n",
        'tags,note,image\ncat;dog;cat,"x, y",a.jpg\n',
        "image,tags\ra.jpg,dog;cat\r",
    ],
)
def test_marks_line_ends_quotes_spaces_and_column_order_do_not_matter(tmp_path: Path, content: str) -> None:
    assert tags(tmp_path / "tags.csv", content) == {"a": (1, 2)}


def test_all_problems_come_in_one_error_with_their_lines(tmp_path: Path) -> None:
    content = "image,tags\na,cats\na,dog\nx,dog\n/a,dog\n../b,dog\nb,couch\nb,dog,cat\n"
    found = problem(tmp_path / "tags.csv", content)
    assert found == (
        "7 problems: line 2: unknown tag 'cats' (did you mean 'cat'?); "
        "line 3: 'a' is listed a second time (first: line 2); line 4: there is no photo 'x'; "
        "line 5: '/a' is an absolute path; write it relative to the folder of the photos; "
        "line 6: '../b' leaves the folder of the photos; and 2 more"
    )


def test_a_synonym_as_a_tag_is_refused_with_the_class_it_means(tmp_path: Path) -> None:
    assert problem(tmp_path / "tags.csv", "image,tags\na,couch\n") == "line 2: 'couch' is a synonym; the class is 'sofa'"


def test_the_line_counts_blank_lines_and_quoted_line_ends(tmp_path: Path) -> None:
    assert problem(tmp_path / "tags.csv", 'image,note,tags\n\n"a","one\ntwo",cat\nb,,bat\n').startswith("line 5:")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "line 1 is '', not the heading"),
        ("a.jpg,cat\n", "line 1 is 'a.jpg,cat', not the heading"),
        ("image;tags\na;cat\n", "line 1 is 'image;tags', not the heading"),
        (b"image,tags\na,k\xe4se\n", "line 2 is not UTF-8"),
    ],
)
def test_another_kind_of_table_is_refused(tmp_path: Path, content: str | bytes, message: str) -> None:
    assert message in problem(tmp_path / "tags.csv", content)


def test_missing_photos_can_be_set_aside(tmp_path: Path) -> None:
    path = write(tmp_path / "tags.csv", "image,tags\nx.jpg,cat\na,cat\n")
    listed = read_tags(path, CLASSES, PHOTOS, skip_missing=True)
    assert listed.entries == {"a": (1,)}
    assert listed.missing == {"x": "line 2: there is no photo 'x.jpg'"}


def test_json_tags_are_read(tmp_path: Path) -> None:
    assert tags(tmp_path / "tags.json", '\ufeff{"a.jpg": ["dog", "cat"], "c": []}') == {"a": (1, 2), "c": ()}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": ["cat"], "a": ["dog"]}', "entry 2: 'a' is listed a second time (first: entry 1)"),
        ('{"a": "cat"}', "entry 1: the tags of 'a' are not a list of strings"),
        ('{"a": {"cat": 1}}', "entry 1: the tags of 'a' are not a list of strings"),
        ('{"a": ["bat"]}', "entry 1: unknown tag 'bat'"),
        ('{"a":\n oops}', "line 2 is not JSON"),
        ('["a"]', "is not an object"),
    ],
)
def test_problems_of_json_tags_are_named(tmp_path: Path, content: str, message: str) -> None:
    assert message in problem(tmp_path / "tags.json", content)


def test_classes_have_synonyms_and_background_words(tmp_path: Path) -> None:
    text = "\ufeff# mine\r\ncat\r\n\r\ntraffic light : signal,  lights # red\r\nC#\r\n[Background]\r\ngrass\r\nsky # blue\r\n"
    assert read_classes(write(tmp_path / "classes.txt", text)) == ClassList(
        names=("cat", "traffic light", "C#"), synonyms=((), ("signal", "lights"), ()), background_words=("grass", "sky")
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("cat\nCat\n", "line 2: 'Cat' is already a class (line 1)"),
        ("cat: pet\ndog: pet\n", "line 2: 'pet' is already a synonym of cat (line 1)"),
        ("cat: dog\ndog\n", "line 2: 'dog' is already a synonym of cat (line 1)"),
        ("cat\n[background]\ncat\n", "line 3: 'cat' is already a class (line 1)"),
        ("cat: pet\n[background]\npet\n", "line 3: 'pet' is already a synonym of cat (line 1)"),
        ("cat\n[background]\nsky\nsky\n", "line 4: 'sky' is already a background word (line 3)"),
        ("background\n", "line 1: 'background' is already the name of index 0"),
        ("cat, dog\n", "line 1: 'cat, dog' is not a name"),
        ("cat;dog\n", "line 1: 'cat;dog' is not a name"),
        (": pet\n", "line 1: ': pet' is not a name"),
        ("cat\n[others]\n", "line 2: '[others]' is no heading"),
        ("cat\n[background]\nsky: blue\n", "line 3: the background word 'sky' has synonyms"),
        ("# none\n", "it names no class"),
        ("\n".join(f"c{i}" for i in range(255)), "255 classes are more than the 254"),
        ("cat\ncat\ncat\n", "2 problems: line 2"),
    ],
)
def test_problems_of_the_class_list_are_named(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(WeakClipError) as info:
        read_classes(write(tmp_path / "classes.txt", content))
    assert message in info.value.problem


def test_a_missing_class_list_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeakClipError, match=r"classes\.txt is missing"):
        read_classes(tmp_path / "classes.txt")


def test_a_split_lists_ids_with_or_without_endings(tmp_path: Path) -> None:
    path = write(tmp_path / "train.txt", "\ufeff# chosen by hand\r\na\r\n\r\n far/away/c.jpeg \r\n")
    assert list(read_split(path, PHOTOS, skip_missing=False).entries) == ["a", "c"]


def test_unknown_and_repeated_ids_of_a_split_are_named_by_line(tmp_path: Path) -> None:
    path = write(tmp_path / "train.txt", "a\nx\na.jpg\n")
    with pytest.raises(WeakClipError) as info:
        read_split(path, PHOTOS, skip_missing=False)
    assert "line 2: there is no photo 'x'; line 3: 'a.jpg' is listed a second time (first: line 1)" in info.value.problem
    assert read_split(write(path, "a\nx\n"), PHOTOS, skip_missing=True).missing == {"x": "line 2: there is no photo 'x'"}
