import json
import subprocess
from pathlib import Path

import pytest

from benchmarks import machine


def test_what_was_measured_on_can_be_stored() -> None:
    found = json.loads(json.dumps([machine.machine(), machine.versions()]))
    assert {*found[0]} == {"processor", "cpus", "memory_gigabytes", "system", "bfloat16_arithmetic", "settings"}
    assert found[0]["cpus"] >= 1 and found[0]["memory_gigabytes"] > 0
    assert {"python", "torch", "h5py", "pydensecrf2"} <= {*found[1]}


def test_changed_files_make_a_commit_dirty_but_results_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    monkeypatch.setattr(machine, "RESULTS", tmp_path / "benchmarks" / "results.json")
    monkeypatch.setattr(machine, "PAGE", tmp_path / "page.md")
    assert machine.commit() == ""
    (tmp_path / "benchmarks").mkdir()
    for name in ("code.py", "page.md", "benchmarks/results.json"):
        (tmp_path / name).write_text("before")
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    for command in (["init", "--quiet"], ["add", "."], [*identity, "commit", "--quiet", "--message", "state"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    for name in ("page.md", "benchmarks/results.json"):
        (tmp_path / name).write_text("after")
    clean = machine.commit()
    assert len(clean) == 40
    (tmp_path / "code.py").write_text("after")
    assert machine.commit() == f"{clean}-dirty"
