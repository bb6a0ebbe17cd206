"""A tiny project after an undisturbed run of all stages: what later runs of a stage must come to again, byte by byte."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.conftest import TINY, change_params
from tests.faults.nursery import ROOT, STAGES, Ended, Nursery, Run

PARAMS: Final[Mapping[str, object]] = {
    **TINY,
    "dataset.mini_train": 10,
    "dataset.mini_val": 4,
    "features.shard_gigabytes": 2.4e-3,
    "weakclip.iterations": 6,
    "deeplab.iterations": 6,
}
OUTS: Final[Mapping[str, tuple[str, ...]]] = {
    "prepare_dataset": ("data/dataset", "data/results/prepare_dataset"),
    "cache_features": ("data/features", "data/results/cache_features"),
    "train_cam": ("data/cam", "data/results/train_cam"),
    "train_weakclip": ("data/weakclip", "data/results/train_weakclip"),
    "generate_masks": ("data/masks/scores", "data/masks/pseudo", "data/results/generate_masks"),
    "refine_masks": ("data/masks/refined", "data/masks/gated", "data/results/refine_masks"),
    "retrain_deeplab": ("data/deeplab", "data/results/retrain_deeplab"),
    "evaluate": ("data/results/evaluate",),
    "toy": ("data/toy",),
}
UNFLUSHED: Final[Mapping[str, int]] = {
    "prepare_dataset": 0,
    "cache_features": 4,
    "train_cam": 1,
    "train_weakclip": 2,
    "generate_masks": 4,
    "refine_masks": 2,
    "retrain_deeplab": 2,
    "evaluate": 1,
    "toy": 1,
}
"""Units of work between two flushes: rows, steps, images. More is never done twice for one kill."""


@dataclass(frozen=True)
class World:
    """``files``: the bytes of all files under data/ after the undisturbed runs. ``runs``: how these went, by stage.
    ``scratches``: what they left in each stage's folder of scratch slots."""

    folder: Path
    nursery: Nursery
    files: Mapping[str, bytes]
    runs: Mapping[str, Ended]
    scratches: Mapping[str, list[str]]

    def run(self, stage: str, **how: object) -> Ended:
        """Run a stage in the project's folder; ``how``: see `Run`."""
        return self.nursery.run(Run(stage=stage, folder=str(self.folder), **how))  # type: ignore[arg-type]

    def before(self, stage: str) -> None:
        """Take away what the stage makes, as DVC does before it runs it."""
        for out in OUTS[stage]:
            shutil.rmtree(self.folder / out, ignore_errors=True)

    def forget(self, stage: str) -> None:
        """Take away its scratch slots."""
        shutil.rmtree(self.folder / ".resume" / stage, ignore_errors=True)

    def restore(self, stage: str) -> None:
        """Put what the stage makes back to where undisturbed runs left it."""
        self.before(stage)
        self.forget(stage)
        for out in map(Path, OUTS[stage]):  # what a killed run leaves beside them, and the next one takes away
            for name in (f".{out.name}.part", f".{out.name}.old"):
                shutil.rmtree(self.folder / out.parent / name, ignore_errors=True)
        for name, content in self.files.items():
            if name.startswith(tuple(f"{out}/" for out in OUTS[stage])):
                path = self.folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)

    def differences(self, found: Mapping[str, bytes] | None = None) -> list[str]:
        """The files under data/ that are not as the undisturbed runs left them, each with what is wrong."""
        found = self.contents() if found is None else found
        names = sorted({*found, *self.files})
        return [
            f"{name}: {'too many' if name not in self.files else 'missing' if name not in found else 'other bytes'}"
            for name in names
            if found.get(name) != self.files.get(name)
        ]

    def half_there(self, stage: str) -> list[str]:
        """The artefacts of the stage that are neither missing nor complete, each with a file that is missing or another.

        Curves may be as far as a training has come.
        """
        found = self.contents()
        wrong = {name.split(": ")[0]: name for name in self.differences(found)}
        grown = {name for name, content in found.items() if self.is_growing_curve(name, content)}
        begun = {artefact for name in found.keys() - grown if (artefact := artefact_of(stage, name))}
        return [wrong[name] for name in sorted(wrong.keys() - grown) if artefact_of(stage, name) in begun]

    def is_growing_curve(self, name: str, content: bytes) -> bool:
        """Whether it is what curves are while a stage trains: rows of the finished one, from its first on, or some bytes of
        them in a file that is being written."""
        whole = name.removesuffix(".part")
        rows = content.endswith(b"\n") or whole != name
        return "/plots/metrics/" in name and rows and self.files.get(whole, b"").startswith(content)

    def contents(self) -> dict[str, bytes]:
        """All files under data/, by their names."""
        files = (path for path in (self.folder / "data").rglob("*") if path.is_file())
        return {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in files}

    def scratch(self, stage: str) -> list[str]:
        """What lies in the stage's folder of scratch slots."""
        home = self.folder / ".resume" / stage
        return sorted(path.relative_to(home).as_posix() for path in home.rglob("*"))


def artefact_of(stage: str, name: str) -> str:
    """The artefact of the stage that a file under data/ belongs to, as it is published; none where it is on its way there."""
    for out in OUTS[stage]:
        if name.startswith(f"{out}/"):
            several = out.startswith("data/results/") or stage == "toy"
            artefact = "/".join(name.split("/")[: out.count("/") + 2]) if several else out
            return "" if artefact.rpartition("/")[2].startswith(".") else artefact
    return ""


def make_world(folder: Path, nursery: Nursery) -> World:
    """Run all stages in a new folder."""
    folder.mkdir(parents=True)
    shutil.copyfile(ROOT / "weakclip" / "presets" / "mini.yaml", folder / "params.yaml")
    change_params(folder / "params.yaml", PARAMS)
    runs: dict[str, Ended] = {}
    world = World(folder, nursery, {}, runs, {})
    for stage in STAGES:
        runs[stage] = world.run(stage)
        if runs[stage].status:
            raise RuntimeError(f"{stage} ended with {runs[stage].status}\n{runs[stage].errors}")
    return World(folder, nursery, world.contents(), runs, {stage: world.scratch(stage) for stage in STAGES})
