"""Take over files of the released WeakCLIP code, and hand this project's to it; not a stage, `weakclip` runs both commands."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from weakclip.datasets.class_lists import class_list
from weakclip.datasets.index import read_dataset
from weakclip.errors import WeakClipError
from weakclip.exchange import count_files, export_lists, export_mask, export_scores, import_masks, numbering
from weakclip.progress import say, track
from weakclip.workers import workers


def take_over(source: Path, classes: str, out: Path) -> None:
    """Turn a folder of the released code's masks or class scores into a folder of this project's masks."""
    num_classes = class_list(classes).num_classes
    total = count_files(source)
    if not total:
        raise WeakClipError(f"{source} holds no PNG and no .npy file", "give the folder of the masks, or the prob_npy folder")
    with new_folder(out) as part:
        for _ in track(import_masks(source, part, classes, num_classes, workers()), total=total, title="importing"):
            pass
    say(f"wrote {total:,} masks to {out}")
    if out.is_relative_to("data/raw"):
        say(f"to train on them, set cam.source to import and cam.import_folder to {out.as_posix()}")


def hand_over(out: Path, dataset: Path, masks: Path, scores: Path) -> None:
    """Write lists, tags, masks and class scores of the training images in the files of the released code."""
    index = read_dataset(dataset)
    numbers = numbering(index.name, index.classes.num_classes)
    if not masks.is_dir() and not scores.is_dir():
        raise WeakClipError(f"there is neither {masks} nor {scores}", "`dvc repro` makes them")
    with new_folder(out) as part:
        export_lists(index, part)
        if masks.is_dir():
            (part / "pred_png").mkdir()
            for record in track(index.training, total=len(index.training), title="masks"):
                export_mask(record, masks, part / "pred_png", numbers)
        if scores.is_dir():
            (part / "prob_npy").mkdir()
            exported = export_scores(index.training, scores, part / "prob_npy", numbers)
            for _ in track(exported, total=len(index.training), title="class scores"):
                pass
    say(f"wrote {', '.join(sorted(path.name for path in out.iterdir()))} to {out}")


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder beside the final one, which must not be there yet; it takes its place when all went well."""
    if out.exists():
        raise WeakClipError(f"{out} is there already", "give a new folder")
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # of a run that was killed
    part.mkdir(parents=True)
    try:
        yield part
        part.replace(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
