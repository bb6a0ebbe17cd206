"""Draw the mini world as a dataset on the disk: JPEG photos and palette masks."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from PIL import Image

from weakclip.datasets.index import ClassList, Dataset, Record
from weakclip.datasets.mini import BACKGROUND_WORDS, CLASS_NAMES, MiniWorld
from weakclip.images import file_crc32, write_image
from weakclip.masks import write_mask
from weakclip.process_pool import in_processes, note
from weakclip.progress import track
from weakclip.workers import workers

JPEG_QUALITY: Final = 95
CHUNK: Final = 20  # scenes a task
CLASSES: Final = ClassList(names=CLASS_NAMES, synonyms=((),) * len(CLASS_NAMES), background_words=BACKGROUND_WORDS)


def draw_mini_dataset(folder: Path, *, final: Path, mini_world: int, mini_train: int, mini_val: int) -> Dataset:
    """Draw scenes of the streams ``train`` and ``val`` into ``folder/images`` and ``folder/masks``.

    ``final``: where the folder will stand when it is complete; the records name the files there.
    ``mini_world``: seed of the world. ``mini_train``, ``mini_val``: images of each split.
    """
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    scenes = [(split, index) for split, number in (("train", mini_train), ("val", mini_val)) for index in range(number)]
    chunks = [scenes[start : start + CHUNK] for start in range(0, len(scenes), CHUNK)]
    tasks = ((folder, final, mini_world, chunk) for chunk in chunks)
    results = in_processes(draw_chunk, tasks, max(1, min(workers(), len(chunks))))
    drawn = (record for chunk in results for record in chunk)
    records = sorted(track(drawn, total=len(scenes), title="drawing scenes"), key=lambda record: record.image_id)
    return Dataset(name="mini", classes=CLASSES, records=tuple(records))


def draw_chunk(folder: Path, final: Path, mini_world: int, scenes: list[tuple[str, int]]) -> list[Record]:
    """Draw scenes, given by split and number, into the folder; their records, with paths below ``final``."""
    world = MiniWorld(seed=mini_world)
    return [draw_image(folder, final, world, split, index) for split, index in scenes]


def draw_image(folder: Path, final: Path, world: MiniWorld, split: str, index: int) -> Record:
    """Draw one scene: a JPEG and a mask."""
    scene = world.scene(split, index)
    image_id = f"{split}_{index:05d}"
    note(image_id)
    photo, mask = Path("images", f"{image_id}.jpg"), Path("masks", f"{image_id}.png")
    write_image(folder / photo, Image.fromarray(scene.image), format="JPEG", quality=JPEG_QUALITY, subsampling=0)
    write_mask(folder / mask, scene.mask)
    height, width = scene.mask.shape
    return Record(
        image_id=image_id,
        photo=(final / photo).as_posix(),
        height=height,
        width=width,
        split=split,
        tags=tuple(1 + CLASS_NAMES.index(name) for name in scene.tags),
        mask=(final / mask).as_posix(),
        crc32=file_crc32(folder / photo),
    )
