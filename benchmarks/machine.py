"""What figures were measured on: without it they mean little. Nothing here names the machine."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Final

from weakclip.workers import workers

ROOT: Final = Path(__file__).parents[1]
RESULTS: Final = ROOT / "benchmarks" / "results.json"
PAGE: Final = ROOT / "docs" / "performance.md"
LIBRARIES: Final = ("torch", "open_clip_torch", "numpy", "h5py", "pillow", "pydensecrf2", "joblib", "dvc")


def machine() -> dict[str, object]:
    """Processor, processors in use, memory and system; whether the processor computes in bfloat16 (known for x86 alone)."""
    return {
        "processor": _line("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "cpus": workers(),
        "memory_gigabytes": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "bfloat16_arithmetic": any(flag in _line("/proc/cpuinfo", "flags").split() for flag in ("avx512_bf16", "amx_bf16")),
        "settings": {name: os.environ[name] for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY") if name in os.environ},
    }


def versions() -> dict[str, str]:
    """Of Python and of the libraries that the figures depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}


def commit() -> str:
    """The commit that was measured, with ``-dirty`` where tracked files differ from it; empty outside a Git checkout.

    Earlier results, and the page that shows them, are no part of what is measured.
    """
    try:
        others = [f":!{path.relative_to(ROOT).as_posix()}" for path in (RESULTS, PAGE)]
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", ".", *others)
        return _git("rev-parse", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def _line(path: str, key: str) -> str:
    file = Path(path)
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")
