"""A slot outlives a killed run, and nothing half-written reaches a final path."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from weakclip import resume
from weakclip.errors import WeakClipError
from weakclip.resume import ResumeSlot, fingerprint, import_closure


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    folder = tmp_path / "inputs"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.bin").write_bytes(b"a")
    (folder / "sub" / "b.bin").write_bytes(b"b")
    return folder


def key(folder: Path, **changes: object) -> str:
    code = folder.parent / "code.py"
    if not code.exists():
        code.write_text("x = 1\n")
    arguments = {"stage": "s", "params": {"lr": 1.0, "seed": 0}, "inputs": [folder], "code": [code], **changes}
    return fingerprint(**arguments)  # type: ignore[arg-type]


def test_fingerprint_ignores_times_and_the_order_of_params(inputs: Path) -> None:
    before = key(inputs)
    os.utime(inputs / "a.bin", (1, 1))
    assert key(inputs, params={"seed": 0, "lr": 1.0}) == before


@pytest.mark.parametrize("changes", [{"stage": "t"}, {"params": {"lr": 2.0, "seed": 0}}, {"inputs": []}, {"code": []}])
def test_fingerprint_changes_with_each_argument(inputs: Path, changes: dict[str, object]) -> None:
    assert key(inputs, **changes) != key(inputs)


def test_fingerprint_changes_with_content_names_and_places(inputs: Path) -> None:
    seen = {key(inputs)}
    (inputs / "a.bin").write_bytes(b"c")
    seen.add(key(inputs))
    (inputs / "a.bin").rename(inputs / "z.bin")
    seen.add(key(inputs))
    (inputs / "z.bin").rename(inputs / "sub" / "z.bin")
    seen.add(key(inputs))
    (inputs.parent / "code.py").write_text("x = 2\n")
    seen.add(key(inputs))
    assert len(seen) == 5


def test_large_input_is_known_by_its_size_and_ends(inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "LARGE", 8)
    monkeypatch.setattr(resume, "END", 2)
    seen = []
    for content in (b"aa0000zz", b"aa0000000zz", b"aa1111111zz", b"ab0000000zz", b"aa0000000zy"):
        (inputs / "a.bin").write_bytes(content)
        seen.append(key(inputs))
    assert seen[1] == seen[2]
    assert len(set(seen)) == 4


def test_missing_input_is_named(inputs: Path) -> None:
    with pytest.raises(WeakClipError, match="nowhere"):
        key(inputs, inputs=[inputs / "nowhere"])


def test_slot_is_found_again_and_replaces_those_of_other_fingerprints(tmp_path: Path) -> None:
    first = ResumeSlot.open("s", "one", tmp_path)
    (first.folder / "state").write_text("half")
    assert (ResumeSlot.open("s", "one", tmp_path).folder / "state").read_text() == "half"
    ResumeSlot.open("t", "other", tmp_path)
    ResumeSlot.open("s", "two", tmp_path)
    assert not first.folder.exists()
    assert (tmp_path / "t" / "other").exists()


def test_kept_names_survive_other_runs_and_only_the_newest_of_them(tmp_path: Path) -> None:
    for number in range(resume.KEPT_SLOTS + 2):
        slot = ResumeSlot.open("s", f"{number}", tmp_path)
        (slot.folder / "weights").write_text(f"{number}")
        (slot.folder / "scratch").write_text("x")
        slot.close(keep=["weights"])
        os.utime(slot.folder / resume.KEPT, ns=(number, number))
    ResumeSlot.open("s", "new", tmp_path)
    left = {path.name: sorted(file.name for file in path.iterdir()) for path in (tmp_path / "s").iterdir()}
    assert left == {"new": [], **{f"{number}": [resume.KEPT, "weights"] for number in (2, 3, 4, 5)}}


def test_closed_slot_is_gone(tmp_path: Path) -> None:
    slot = ResumeSlot.open("s", "one", tmp_path)
    (slot.folder / "state").write_text("x")
    slot.close()
    assert not slot.folder.exists()


@pytest.mark.parametrize("old", ["nothing", "file", "folder", "read-only file", "link"])
@pytest.mark.parametrize("new", ["file", "folder"])
def test_publish_replaces_whatever_is_there(tmp_path: Path, old: str, new: str) -> None:
    final = tmp_path / "data" / "deep" / "final"
    final.parent.mkdir(parents=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").write_text("kept")
    if old == "folder":
        final.mkdir()
        (final / "stale").write_text("stale")
    elif old == "link":
        final.symlink_to(elsewhere)
    elif old != "nothing":
        final.write_text("stale")
        final.chmod(0o444 if old == "read-only file" else 0o644)
    slot = ResumeSlot.open("s", "one", tmp_path / ".resume")
    made = slot.folder / "made"
    if new == "folder":
        made.mkdir()
        made = made / "inside"
    made.write_text("new")
    slot.publish("made", final)
    assert (final / "inside" if new == "folder" else final).read_text() == "new"
    assert [path.name for path in final.parent.iterdir()] == ["final"]
    assert not final.is_symlink()
    assert (elsewhere / "kept").read_text() == "kept"
    assert made.samefile(final / "inside" if new == "folder" else final)  # for the next run, should this one be killed now
    slot.close()
    assert (final / "inside" if new == "folder" else final).read_text() == "new"


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_publish_to_another_disk_copies_there_and_renames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    slot = ResumeSlot.open("s", "one", tmp_path / ".resume")
    made = slot.folder / "made"
    if kind == "folder":
        made.mkdir()
        made = made / "inside"
    made.write_text("new")

    def refuse(source: str | Path, target: str | Path) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    final = tmp_path / "other" / "final"
    slot.publish("made", final)
    assert (final / "inside" if kind == "folder" else final).read_text() == "new"
    assert [path.name for path in final.parent.iterdir()] == ["final"]
    assert made.read_text() == "new"


def test_publish_leaves_nothing_behind_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slot = ResumeSlot.open("stage", "a", tmp_path / ".resume")
    (slot.folder / "masks").mkdir()
    for name in ("1", "2"):
        (slot.folder / "masks" / name).write_text(name)
    link, final = os.link, tmp_path / "out" / "masks"
    final.mkdir(parents=True)
    (final / "old").write_text("old")

    def full(source: str, target: str) -> None:
        if Path(target).name == "2":
            raise OSError(errno.ENOSPC, "No space left on device")
        link(source, target)

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(OSError, match="No space left"):
        slot.publish("masks", final)
    assert [path.name for path in final.parent.iterdir()] == ["masks"] and (final / "old").read_text() == "old"
    monkeypatch.setattr(os, "link", link)
    slot.publish("masks", final)
    assert sorted(path.name for path in final.iterdir()) == ["1", "2"]


def test_a_second_run_of_a_stage_is_refused_while_the_first_one_lasts(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from weakclip.resume import ResumeSlot
slot = ResumeSlot.open("s", "one", Path({str(tmp_path)!r}))
print("open", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as other:
        assert other.stdout is not None and other.stdout.readline() == b"open\n"
        with pytest.raises(WeakClipError, match="another process is running s in this folder"):
            ResumeSlot.open("s", "two", tmp_path)
        assert (tmp_path / "s" / "one").is_dir()
        ResumeSlot.open("t", "two", tmp_path).close()
        other.kill()
    ResumeSlot.open("s", "two", tmp_path).close()
    assert list((tmp_path / "s").iterdir()) == []


def test_publishing_what_was_not_made_is_a_programmers_mistake(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="made"):
        ResumeSlot.open("s", "one", tmp_path).publish("made", tmp_path / "final")


def test_import_closure_follows_imports_and_packages(tmp_path: Path) -> None:
    files = {
        "stages/__init__.py": "",
        "stages/one.py": "import json\nfrom weakclip.a import b\nfrom weakclip import c\n",
        "weakclip/__init__.py": "",
        "weakclip/a/__init__.py": "",
        "weakclip/a/b.py": "import weakclip.d\n",
        "weakclip/c.py": "from stages import two\n",
        "weakclip/d.py": "",
        "weakclip/unused.py": "",
        "stages/two.py": "",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = {path.relative_to(tmp_path).as_posix() for path in import_closure(tmp_path / "stages" / "one.py", tmp_path)}
    assert found == set(files) - {"weakclip/unused.py"}
