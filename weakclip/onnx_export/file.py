"""A network as an ONNX file: what all exports have in common."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from weakclip.errors import WeakClipError

PACKAGES: Final = ("onnx", "onnxscript")
OPSET: Final = 20
INPUT: Final = "photos"


def write_onnx(
    network: nn.Module, example: Tensor, out: Path, *, free: Mapping[int, str], output: str, about: Mapping[str, object]
) -> None:
    """Write the file, weights inside: ``example`` is what the network takes, as `INPUT`, and ``output`` the name of its result.

    ``free``: the dimensions of the example that may be other ones, the batch among them, and what the file calls them.
    ``about``: goes into the metadata, what is no text as JSON.

    Raises:
        WeakClipError: the packages that write ONNX are not installed.
    """
    missing = [name for name in PACKAGES if not installed(name)]
    if missing:
        raise WeakClipError(f"{' and '.join(missing)} cannot be imported", "`pip install -e .[onnx]` installs what ONNX needs")
    # torch reports its steps and warns of its own deprecations.
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network.cpu().eval(),
            (example,),
            dynamo=True,
            dynamic_shapes=(dict(free),),
            input_names=[INPUT],
            output_names=[output],
            opset_version=OPSET,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("expected torch.onnx.export to return a program")
    for key, value in about.items():
        program.model.metadata_props[key] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    part = out.with_name(f".{out.name}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        program.save(os.fspath(part))
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)


def installed(name: str) -> bool:
    """Whether a module can be imported."""
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True
