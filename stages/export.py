"""Write masks in the formats of other tools: not a stage of the pipeline, `weakclip export` runs it.

Reads a dataset index, its photos and a folder of masks. `stages.exchange` is for the files of the released WeakCLIP code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from stages._kernels import mask_kernel
from stages.exchange import new_folder
from weakclip.datasets.index import Dataset, Record, read_dataset
from weakclip.errors import WeakClipError
from weakclip.export.coco import Segmentation, as_polygons, as_run_lengths, write_coco
from weakclip.export.confidence import gated_photos
from weakclip.export.cvat import write_cvat
from weakclip.export.label_studio import write_label_studio
from weakclip.export.masked_photos import MaskedPhoto, folder_of_photos, read_masked_photos, with_masks
from weakclip.export.voc import write_voc
from weakclip.export.yolo import write_yolo
from weakclip.params import load
from weakclip.progress import say, track
from weakclip.refinement import Refinement
from weakclip.scores import ScoreStore
from weakclip.sharpening import processes

DATASET: Final = Path("data/dataset")
REFINED: Final = Path("data/masks/refined")

Write = Callable[[Iterator[MaskedPhoto], Dataset, Path, Path], Mapping[str, int]]
"""Photos, the dataset that they are of, the folder of all photos, and where to write -> how much of what was written."""


@dataclass(frozen=True)
class Format:
    """``ending``: of the file that is written; empty for a folder. ``hint``: what to do with it."""

    write: Write
    ending: str
    hint: str


def in_coco(
    photos: Iterator[MaskedPhoto], index: Dataset, root: Path, out: Path, *, segmentation: Segmentation
) -> Mapping[str, int]:
    """`write_coco`, with the ids of images and categories that COCO itself has where the dataset is coco14."""
    return write_coco(photos, index.classes, root, out, segmentation, images_of_coco=index.name == "coco14")


FORMATS: Mapping[str, Format] = {
    "coco": Format(partial(in_coco, segmentation=as_run_lengths), ".json", "file names in it are relative to {photos}"),
    "coco-polygons": Format(partial(in_coco, segmentation=as_polygons), ".json", "file names in it are relative to {photos}"),
    "yolo": Format(
        lambda photos, index, root, out: write_yolo(photos, index.classes, out), "", "yolo segment train data={out}/data.yaml"
    ),
    "voc": Format(
        lambda photos, index, root, out: write_voc(photos, index.classes, out),
        "",
        'for torchvision: VOCSegmentation("{out}")',
    ),
    "cvat": Format(
        lambda photos, index, root, out: write_cvat(photos, index.classes, root, out),
        ".zip",
        "upload it as annotations (Segmentation mask 1.1) of a task with {photos}",
    ),
    "label-studio": Format(
        lambda photos, index, root, out: write_label_studio(photos, index.classes, root, out),
        "",
        "labels.xml is the labelling interface; import tasks.json, serve {photos}",
    ),
}


def main(
    format_name: str,
    out: Path,
    masks: Path | None = None,
    dataset: Path = DATASET,
    confidence: float | None = None,
    params: Path = Path("params.yaml"),
    scores: Path = Path("data/masks/scores"),
) -> None:
    """Write the masks of a folder, with their photos or the names of these, in the format.

    By default they are the refined ones of ``data/dataset``; of another dataset those that `weakclip predict` put beside it.
    """
    masks = masks or (REFINED if dataset == DATASET else dataset / "masks")
    if format_name not in FORMATS:
        raise WeakClipError(f"{format_name!r} is not a format", f"there are: {', '.join(FORMATS)}")
    wanted = FORMATS[format_name]
    if wanted.ending and out.suffix != wanted.ending:
        raise WeakClipError(
            f"{out} does not end in {wanted.ending}", f"{format_name} is one file: `--out masks{wanted.ending}`"
        )
    index = read_dataset(dataset)
    records = with_masks(index, masks)
    photos: Iterator[MaskedPhoto] = read_masked_photos(records, masks, index.classes.num_classes)
    if confidence is not None:
        refinement = refinement_of(params, confidence)
        have_scores(records, masks, scores)
        photos = gated_photos(records, masks, index.classes.num_classes, scores, refinement, processes(refinement.kernel))
    root = folder_of_photos(index.records)
    with (new_file if wanted.ending else new_folder)(out) as part:
        counts = wanted.write(track(photos, total=len(records), title="exporting"), index, root, part)
    without = len(index.records) - len(records)
    say(f"wrote {', '.join(f'{count:,} {name}' for name, count in counts.items())} to {out}")
    if without:
        say(f"  {without:,} of the {len(index.records):,} images have no mask in {masks}: {splits_of(index, records)}")
    say(f"  {wanted.hint.format(photos=root, out=out)}")


def refinement_of(params: Path, gate: float) -> Refinement:
    """What the parameters refine masks with, with another gate."""
    if not 0 < gate <= 1:
        raise WeakClipError(f"--confidence is {gate}", "give a probability, above 0 and at most 1, such as 0.9")
    crf = load(params).crf
    return Refinement(kernel=mask_kernel(crf), tag_limited=crf.tag_limited, gate=gate)


def have_scores(records: Sequence[Record], masks: Path, scores: Path) -> None:
    """Refuse masks that the class scores are not of."""
    there = set(ScoreStore(scores).image_ids)
    missing = [record.image_id for record in records if record.image_id not in there]
    if missing:
        problem = (
            f"{scores} has no class scores of {len(missing):,} of the {len(records):,} masks in {masks}, first {missing[0]}"
        )
        raise WeakClipError(problem, "--confidence is for data/masks/refined: training images, whose scores are kept")


def splits_of(index: Dataset, records: Sequence[Record]) -> str:
    """How many of each split are left out."""
    there = {record.image_id for record in records}
    left = [record.split for record in index.records if record.image_id not in there]
    return ", ".join(f"{left.count(split):,} of {split}" for split in sorted(set(left)))


@contextmanager
def new_file(out: Path) -> Iterator[Path]:
    """A file beside the final one, which must not be there yet; it takes its place when all went well."""
    if out.exists():
        raise WeakClipError(f"{out} is there already", "give a new name, or remove it")
    part = out.with_name(f".{out.name}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield part
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
