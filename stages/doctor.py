"""Check the set-up and say what the pipeline will take: not a stage, `weakclip doctor` runs it.

Reads params.yaml, the dataset index and the features' if they are there, and the state of the machine; asks the network for
pretrained weights that have to be downloaded. Leaves nothing behind. Every line is ok, warning or error, the latter two with
what to do; with an error the exit code is 1.
"""

from __future__ import annotations

import importlib
import platform
import subprocess
import sys
from collections.abc import Callable
from configparser import ConfigParser
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from weakclip.errors import WeakClipError
from weakclip.progress import say

PYTHONS: Final = ((3, 11), (3, 12))
MODULES: Final = {
    "dvc": "dvc", "dvclive": "dvclive", "h5py": "h5py", "isal": "isal", "joblib": "joblib", "numpy": "numpy",
    "open_clip": "open_clip_torch", "PIL": "pillow", "pycocotools.mask": "pycocotools", "pydantic": "pydantic",
    "ruamel.yaml": "ruamel.yaml", "safetensors": "safetensors", "segmentation_models_pytorch": "segmentation-models-pytorch",
    "timm": "timm", "torch": "torch", "torchvision": "torchvision",
}  # fmt: skip
DATASET: Final = Path("data/dataset")
OUTSIDE: Final = "run it in the project's folder; `dvc doctor` tells more"


@dataclass(frozen=True)
class Line:
    """What a check has found. With a hint it is a warning."""

    text: str
    hint: str = ""


def main(params: Path = Path("params.yaml"), dataset: Path = DATASET) -> None:
    """Check the set-up and forecast size and time."""
    link = cache_link()
    sound = [attempt(check) for check in (python, packages, crf, lambda: repository(link))]
    if all(sound):  # the rest needs the packages
        from stages import doctor_checks as of
        from weakclip.params import load

        sound += [attempt(check) for check in (of.crf_runs, of.device_and_processes, lambda: of.parameters(params))]
    if all(sound):
        p = load(params)
        for check in (
            lambda: of.photos(p),
            lambda: of.dataset(dataset),
            lambda: of.clip_weights(p),
            lambda: of.features(p),
            lambda: of.second_encoder_weights(p),
            lambda: of.encoder_weights(p),
            lambda: of.seeds(p),
            lambda: of.forecast(p, dataset, linked=link != "copy"),
        ):
            sound.append(attempt(check))
    if not all(sound):
        raise SystemExit(1)


def attempt(check: Callable[[], Line | list[Line] | None]) -> bool:
    """Print what a check has found; return whether the pipeline can run with it."""
    try:
        found = check()
    except WeakClipError as error:
        sys.stdout.flush()
        print(f"error: {error.problem}\nhint: {error.hint}", file=sys.stderr, flush=True)
        return False
    for line in [found] if isinstance(found, Line) else found or []:
        say(f"warning: {line.text}\nhint: {line.hint}" if line.hint else f"ok: {line.text}")
    return True


def python() -> Line:
    """Whether this is a Python that the project is tested with."""
    if sys.version_info[:2] not in PYTHONS:
        wanted = " or ".join(f"{major}.{minor}" for major, minor in PYTHONS)
        raise WeakClipError(
            f"this is Python {platform.python_version()}, the project needs {wanted}",
            f"`make repro PYTHON=/path/to/python{wanted.split()[-1]}`, or an environment of that version",
        )
    return Line(f"Python {platform.python_version()}")


def packages() -> Line:
    """Whether everything that the stages import can be imported, but for the CRF."""
    missing = [f"{name} ({reason})" for module, name in MODULES.items() if (reason := not_importable(module))]
    if missing:
        problem = f"{len(missing)} packages cannot be imported: {'; '.join(missing)}"
        raise WeakClipError(problem, "`pip install -e .` installs them")
    return Line(f"packages: all there; torch {importlib.import_module('torch').__version__}")


def not_importable(module: str) -> str:
    """Why a module cannot be imported; empty where it can."""
    try:
        importlib.import_module(module)
    except ImportError as error:
        return str(error).splitlines()[0]
    return ""


def crf() -> None:
    """Whether the dense CRF can be imported."""
    if reason := not_importable("pydensecrf.densecrf"):
        raise WeakClipError(
            f"the dense CRF (pydensecrf2) cannot be imported: {reason}",
            "`apt-get install g++ python3-dev`, then `pip install pydensecrf2`: it is built from source; not the "
            "distribution `pydensecrf`, which does not build on this Python",
        )


def repository(link: str) -> Line:
    """Whether DVC finds its repository and the stages; and what `cache_link` has found."""
    result = dvc("stage", "list", "--name-only")
    if result.returncode:
        reason = (result.stderr.strip().splitlines() or ["no reason given"])[0].removeprefix("ERROR: ")
        hint = "correct it, or write it anew: `weakclip preset NAME`" if "params.yaml" in reason else OUTSIDE
        raise WeakClipError(f"DVC cannot read the stages: {reason}", hint)
    stages = len(result.stdout.split())
    if link == "copy":
        return Line(
            f"DVC: {stages} stages; its cache copies, so that every output takes its room twice",
            "`dvc config cache.type reflink,hardlink,symlink,copy`, then `dvc checkout --relink`; docs/storage.md tells more",
        )
    return Line(f"DVC: {stages} stages; its cache links ({link})")


def cache_link(root: Path = Path()) -> str:
    """How DVC brings outputs from its cache: the first configured kind that the file systems can do.

    One of reflink, hardlink, symlink and copy. Before there is a cache, nothing is known of the file systems: then the first
    kind that works on all of them counts.
    """
    config = ConfigParser()
    config.read([root / ".dvc" / "config", root / ".dvc" / "config.local"], encoding="utf-8")
    wanted = [kind.strip() for kind in config.get("cache", "type", fallback="reflink,copy").strip('"').split(",")]
    able = {"hardlink", "symlink", "copy"}
    for line in dvc("doctor", folder=root).stdout.splitlines():
        if line.startswith("Cache types:") and "no-dvc-cache" not in line:
            able = {kind.strip() for kind in line.partition(":")[2].split(",")} | {"copy"}
    return next((kind for kind in wanted if kind in able), "copy")


def dvc(*arguments: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run DVC, whatever comes of it."""
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
