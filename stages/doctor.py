"""Check the set-up and say what the pipeline will take: not a stage, `weakclip doctor` runs it.

Reads params.yaml, the dataset index if it is there, and the state of the machine. Writes nothing. Every problem is an error of
two lines; with any, the exit code is 1.
"""

from __future__ import annotations

import importlib
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from configparser import ConfigParser
from pathlib import Path
from typing import TYPE_CHECKING, Final

from weakclip.errors import WeakClipError
from weakclip.progress import duration, say, size

if TYPE_CHECKING:
    from weakclip.params import Params

MODULES: Final = {
    "dvc": "dvc", "dvclive": "dvclive", "h5py": "h5py", "joblib": "joblib", "numpy": "numpy", "open_clip": "open_clip_torch",
    "PIL": "pillow", "pycocotools.mask": "pycocotools", "pydantic": "pydantic", "pydensecrf.densecrf": "pydensecrf2",
    "ruamel.yaml": "ruamel.yaml", "safetensors": "safetensors", "segmentation_models_pytorch": "segmentation-models-pytorch",
    "timm": "timm", "torch": "torch", "torchvision": "torchvision",
}  # fmt: skip
PHOTOS: Final = Path("data/raw/photos")
DATASET: Final = Path("data/dataset")
OUTS: Final = (Path("data/features"), Path("data/cam"), Path("data/masks"), Path(".resume"))
LINKS: Final = {"hardlink", "symlink"}  # these work on every file system that DVC's cache and the project share


def main(params: Path = Path("params.yaml"), dataset: Path = DATASET) -> None:
    """Check the set-up and forecast size and time."""
    problems = [problem for check in (packages, repository) if (problem := attempt(check))]
    if not problems:  # the rest needs the packages
        from weakclip.params import load

        problems += [problem for check in (device_and_processes, lambda: parameters(params)) if (problem := attempt(check))]
    if not problems:
        p = load(params)
        checks = (lambda: photos(p), lambda: weights(p), lambda: forecast(p, dataset))
        problems += [problem for check in checks if (problem := attempt(check))]
    sys.stdout.flush()
    for problem in problems:
        print(f"error: {problem.problem}\nhint: {problem.hint}", file=sys.stderr)
    if problems:
        raise SystemExit(1)


def attempt(check: Callable[[], str]) -> WeakClipError | None:
    """Print what a check found to be right; return what it found to be wrong."""
    try:
        say(check())
    except WeakClipError as error:
        return error
    return None


def packages() -> str:
    """Whether everything that the stages import can be imported."""
    missing = []
    for module, distribution in MODULES.items():
        try:
            importlib.import_module(module)
        except ImportError as error:
            missing.append(f"{distribution} ({str(error).splitlines()[0]})")
    if missing:
        raise WeakClipError(
            f"{len(missing)} packages cannot be imported: {'; '.join(missing)}",
            "`pip install -e .` installs them; pydensecrf2 needs a C++ compiler and Python's headers",
        )
    torch = importlib.import_module("torch")
    return f"packages: all there; Python {platform.python_version()}, torch {torch.__version__}"


def repository() -> str:
    """Whether DVC finds its repository and the stages, and whether its cache links or copies."""
    command = [sys.executable, "-m", "dvc", "stage", "list", "--name-only"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        reason = (result.stderr.strip().splitlines() or ["no reason given"])[0].removeprefix("ERROR: ")
        raise WeakClipError(f"DVC cannot read the stages: {reason}", "run it in the project's folder; `dvc doctor` tells more")
    return f"DVC: {len(result.stdout.split())} stages; its cache {'links' if cache_links() else 'copies'}"


def cache_links(root: Path = Path()) -> bool:
    """Whether DVC's cache is set to link outputs: without links each takes its room twice, unless the disk can reflink."""
    config = ConfigParser()
    config.read([root / ".dvc" / "config", root / ".dvc" / "config.local"], encoding="utf-8")
    return bool(LINKS & {kind.strip() for kind in config.get("cache", "type", fallback="reflink,copy").split(",")})


def device_and_processes() -> str:
    """Whether WEAKCLIP_DEVICE and WEAKCLIP_WORKERS can be used."""
    import torch

    from weakclip.device import device
    from weakclip.workers import workers

    chosen = device()
    name = torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else f"{platform.machine()}, no CUDA"
    return f"device: {chosen} ({name}), {workers()} processes"


def parameters(path: Path) -> str:
    """Whether every parameter has a value that it may have."""
    from weakclip.params import load

    p = load(path)
    return f"parameters: {path} is right; dataset {p.dataset.name}, {p.clip.model}, {p.weakclip.variant}"


def photos(p: Params) -> str:
    """Whether the folder of photos can be read."""
    if p.dataset.name == "mini":
        return "photos: the mini world draws its own"
    hint = f"`weakclip preset {p.dataset.name} --root DIR` links the folder of your photos"
    if not PHOTOS.is_dir():
        reason = "links to nothing" if PHOTOS.is_symlink() else "is missing"
        raise WeakClipError(f"{PHOTOS} {reason}", hint)
    try:
        found = any(PHOTOS.iterdir())
    except OSError as error:
        raise WeakClipError(f"{PHOTOS} cannot be read: {error.strerror}", "check who may read it") from error
    if not found:
        raise WeakClipError(f"{PHOTOS} is empty", hint)
    return f"photos: {PHOTOS.resolve()}"


def weights(p: Params) -> str:
    """Whether the files that parameters name are there; a pretrained tag is downloaded by the first stage that needs it."""
    from weakclip.deeplab.encoders import weights_file

    if Path(p.clip.weights).suffix in {".pt", ".pth", ".bin", ".safetensors"} and not Path(p.clip.weights).is_file():
        raise WeakClipError(f"clip.weights {p.clip.weights} is missing", "put the file there, or name a pretrained tag")
    weights_file(p.deeplab.encoder_weights)
    if p.cam.source == "import" and not Path(p.cam.import_folder).is_dir():
        raise WeakClipError(f"cam.import_folder {p.cam.import_folder} is missing", "put the seeds there")
    tags = {"clip.weights": p.clip.weights, "deeplab.encoder_weights": p.deeplab.encoder_weights}
    downloads = [name for name, value in tags.items() if value not in ("mini", "none") and not Path(value).is_file()]
    return f"weights: to be downloaded when first needed: {', '.join(downloads)}" if downloads else "weights: all there"


def forecast(p: Params, folder: Path) -> str:
    """What the stages will take, against what the disk has left."""
    from stages.forecast import forecasts
    from weakclip.datasets.index import read_dataset

    if not (folder / "images.csv").exists():
        return "forecast: none before `dvc repro prepare_dataset` has counted the images"
    rows = forecasts(p, read_dataset(folder))
    lines = ["forecast, from what was timed just now; no promise:", f"  {'stage':<16}  {'disk':>8}  time"]
    lines += [f"  {row.stage:<16}  {size(round(row.n_bytes)):>8}  {duration(row.seconds)}" for row in rows]
    needed = sum(row.n_bytes for row in rows) * (1 if cache_links() else 2)
    free = shutil.disk_usage(folder).free + sum(used(path) for path in OUTS)
    twice = "" if cache_links() else ", DVC's copies included"
    hours = duration(sum(row.seconds for row in rows))
    lines.append(f"  {'all':<16}  {size(round(needed)):>8}  {hours}{twice}; {size(free)} free, or taken by former outputs")
    if needed > free:
        say("\n".join(lines))
        raise WeakClipError(
            f"the pipeline needs about {size(round(needed))}, the disk has {size(free)}",
            "free some space, lower features.views, set features.dtype to int8, or link DVC's cache (cache.type)",
        )
    return "\n".join(lines)


def used(path: Path) -> int:
    """Bytes that a folder takes on the disk."""
    return sum(file.stat().st_blocks * 512 for file in path.rglob("*") if file.is_file() and not file.is_symlink())
