"""Hostile and odd input through a real stage, case by case."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.inputs import CASES, Case


@pytest.mark.parametrize("case", [case for _, case in CASES], ids=[name for name, _ in CASES])
def test_input_is_handled_or_named(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEAKCLIP_WORKERS", "1")
    case(tmp_path)
