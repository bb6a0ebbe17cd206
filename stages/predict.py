"""Masks and overlays of photos that are in no dataset: not a stage of the pipeline, `weakclip predict` runs it.

Reads photos, a trained DeepLab or WeakCLIP, and from params.yaml how `evaluate` or `generate_masks` and `refine_masks` look at
photos. Writes `masks/`, `overlays/`, and an index of them that `weakclip export --dataset` reads.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from stages._kernels import mask_kernel
from stages.exchange import new_folder
from weakclip.affinity_refinement import affinity_refinement
from weakclip.crf import CrfKernel
from weakclip.datasets.image_ids import image_ids
from weakclip.datasets.index import ClassList, Dataset, Record, Skipped, write_dataset
from weakclip.deeplab.prediction import WEIGHTS
from weakclip.errors import WeakClipError
from weakclip.gallery import blend
from weakclip.masks import write_mask
from weakclip.params import Params, load
from weakclip.predict import Prediction, Settings, load_segmenter, photo_files, segment, split_tags
from weakclip.progress import say, track

JPEG_QUALITY = 90


def main(photos: Sequence[str], out: Path, tags: str, model: Path, params: Path = Path("params.yaml")) -> None:
    """Write masks and overlays of the photos; those that cannot be read are named, and the others done."""
    for folder in map(Path, photos):
        if folder.is_dir() and out.resolve().is_relative_to(folder.resolve()):
            problem = f"{out} is in {folder}, where its masks and overlays would be taken for photos the next time"
            raise WeakClipError(problem, "give a folder beside it: --out")
    files, twice = distinct([path.absolute() for path in photo_files(photos)])
    names = dict(zip(files, image_ids(map(str, files)), strict=True))
    settings = settings_of(load(params), model)
    segmenter = load_segmenter(model, settings)
    skipped: list[Skipped] = []

    def leave_out(path: Path, error: WeakClipError) -> None:
        skipped.append(Skipped(file=str(path), reason=error.problem))
        sys.stdout.flush()
        print(f"error: {error.problem}\nhint: {error.hint}", file=sys.stderr)

    for path, error in twice.items():
        leave_out(path, error)
    found = segment(segmenter, files, split_tags(tags), settings.kernel, leave_out)
    foreground = segmenter.names[1:]
    classes = ClassList(names=foreground, synonyms=((),) * len(foreground), background_words=())
    records: list[Record] = []
    with new_folder(out) as part:
        for name in ("masks", "overlays"):
            (part / name).mkdir()
        for prediction in track(found, total=len(names), title="predicting"):
            records.append(write_prediction(prediction, names[prediction.photo], part, classes))
        if not records:
            raise WeakClipError("none of the photos could be read", "what is wrong with each is said above")
        records.sort(key=lambda record: record.image_id)
        write_dataset(Dataset(name="folder", classes=classes, records=tuple(records)), part, skipped)
    counts = Counter(classes.names[tag - 1] for record in records for tag in record.tags)
    shown = ", ".join(f"{name} in {count:,}" for name, count in sorted(counts.items())) or "nothing but background"
    say(f"wrote {len(records):,} masks and overlays to {out}: {shown}")
    if skipped:
        say(f"  {len(skipped):,} photos left out, listed in {out / 'skipped.csv'}")
        raise SystemExit(1)


def distinct(files: Sequence[Path]) -> tuple[list[Path], dict[Path, WeakClipError]]:
    """The files but those whose mask would be called as another's: of one folder, with the same name but for the ending."""
    first: dict[Path, Path] = {}
    twice = {}
    for path in files:
        other = first.setdefault(path.with_suffix(""), path)
        if other is not path:
            problem = f"the mask of {path} would be called as that of {other}"
            twice[path] = WeakClipError(problem, "rename one of them, or predict it on its own")
    return [path for path in files if path not in twice], twice


def write_prediction(prediction: Prediction, name: str, folder: Path, classes: ClassList) -> Record:
    """Write ``masks/<name>.png`` and ``overlays/<name>.jpg``; the classes that were found are the record's tags."""
    write_mask(folder / "masks" / f"{name}.png", prediction.mask)
    overlay = Image.fromarray(blend(prediction.image, prediction.mask))
    overlay.save(folder / "overlays" / f"{name}.jpg", format="JPEG", quality=JPEG_QUALITY)
    height, width = prediction.mask.shape
    tags = tuple(1 + classes.names.index(found) for found in prediction.classes)
    return Record(
        image_id=name, photo=prediction.photo.as_posix(), height=height, width=width, split="train", tags=tags, mask=None
    )


def settings_of(p: Params, model: Path) -> Settings:
    """As `evaluate` looks at photos for a DeepLab, as `generate_masks` and `refine_masks` do for a WeakCLIP."""
    if (model / f"{WEIGHTS}.json").is_file():
        crf = CrfKernel(**p.evaluate.crf.model_dump()) if p.evaluate.crf.iterations else None
        return Settings(scales=p.evaluate.scales, flip=p.evaluate.flip, kernel=crf)
    return Settings(
        scales=p.masks.scales,
        flip=p.masks.flip,
        base_size=p.masks.base_size,
        stride=p.masks.stride,
        share_absent=p.masks.share_absent,
        precision=p.clip.precision,
        kernel=mask_kernel(p.crf),
        affinity=affinity_refinement(p.masks.affinity_blocks, p.masks.affinity_share),
    )
