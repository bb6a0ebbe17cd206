"""The folder with inputs and outputs of the released code, and the index of its cases.

``WEAKCLIP_PARITY`` names the folder; without it these tests are skipped. ``WEAKCLIP_PARITY_INDEX`` names another index than the
one beside this file. Seeds, sizes, kernels, class lists and tolerances come from the index and from the folder, never from the
tests.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.parity_data import Case, ParityData, marked

__all__ = ["DATA", "OWN_INDEX", "Case", "cases", "folder", "golden", "index", "marked", "read_json", "weights"]

OWN_INDEX = Path(__file__).with_name("index.json")
DATA = ParityData("WEAKCLIP_PARITY", OWN_INDEX)
folder, index, cases, weights, golden = DATA.folder, DATA.index, DATA.cases, DATA.weights, DATA.golden


def read_json(case: Case, name: str = "file") -> Any:
    """The JSON file that a field of the case names."""
    return json.loads((folder() / case[name]).read_text(encoding="utf-8"))
