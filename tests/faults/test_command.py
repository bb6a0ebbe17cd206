"""What `python -m tests.faults` tells of what it finds; what it does is tested by the other modules."""

import json
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from tests.faults import __main__ as command


@pytest.mark.parametrize(("lost", "status"), [([], 0), (["data/deeplab: missing", "an answer of three lines"], 1)])
def test_the_last_line_counts_and_a_loss_is_the_exit_status(
    lost: list[str], status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    restored: list[str] = []
    monkeypatch.setattr(command, "Nursery", lambda *_: nullcontext())
    monkeypatch.setattr(command, "make_world", lambda *_: SimpleNamespace(restore=restored.append))
    monkeypatch.setenv("WEAKCLIP_WORKERS", "1")
    monkeypatch.setattr(command.time, "monotonic", iter(range(4)).__next__)  # its end, then two trials
    for name in ("try_kills", "try_damage", "try_full_disk", "try_input"):
        monkeypatch.setattr(command, name, lambda *_: (3, lost))
    with pytest.raises(SystemExit) as ended:
        command.main(seconds=3, seed=1)
    lines = capsys.readouterr().out.splitlines()
    counts = json.loads(lines[-1])
    assert ended.value.code == status
    assert counts.pop("losses") == 2 * len(lost)
    assert sum(counts.values()) == 6 and counts.keys() == {"kills", "damages", "full_disks", "inputs"}
    assert lines[:-1] == [f"loss: {loss}" for loss in lost] * 2
    assert restored == [*command.STAGES] * (2 if lost else 0)
