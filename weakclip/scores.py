"""The stored class scores of images: for each image its own classes and their probabilities, pixel by pixel."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from weakclip.errors import WeakClipError
from weakclip.features.index import ShardFolder, shard_name, write_index
from weakclip.features.shards import Column, ShardLayout, ShardReader
from weakclip.features.writer import ShardWriter, forget_journals
from weakclip.ranks import world

REMEDY: Final = "write the scores anew: `dvc repro -f -s generate_masks`"
COLUMN: Final = "probabilities"
HALF: Final = "<f2"
IMAGES_IN_SHARD: Final = 16
OPEN_AT_MOST: Final = 4

Classes = NDArray[np.uint16]
Probabilities = NDArray[np.floating]


class ScoreWriter:
    """Writes the scores of images, given in any order, into shards of consecutive images and an index.

    A shard is written when the last of its images arrives (until then they wait in memory), so a killed run loses at most what
    was waiting; a later writer of the same folder, images and attributes goes on with the shards that are there. Ranks make a
    writer each and share the shards. ``dtype``: of the stored probabilities, float16 or float32.
    """

    def __init__(
        self,
        folder: Path,
        image_ids: Sequence[str],
        attributes: Mapping[str, object],
        *,
        images_per_shard: int = IMAGES_IN_SHARD,
        dtype: str = HALF,
    ) -> None:
        self._folder, self._image_ids, self._attributes = folder, tuple(image_ids), dict(attributes)
        self._dtype = np.dtype(dtype)
        if len({*image_ids}) != len(image_ids) or not image_ids or images_per_shard < 1:
            raise ValueError("expected images, each once, and at least one in a shard")
        firsts = range(0, len(image_ids), images_per_shard)
        self._shards = [self._image_ids[first : first + images_per_shard] for first in firsts]
        self._shard_of = {image_id: number for number, group in enumerate(self._shards) for image_id in group}
        folder.mkdir(parents=True, exist_ok=True)
        self._own = world().share(range(len(self._shards)))
        self._done = {number for number in self._own if self._is_intact(number)}
        forget_journals(folder, {shard_name(number) for number in self._done})
        self._waiting: dict[int, dict[str, tuple[Classes, Probabilities]]] = {}

    @property
    def missing(self) -> tuple[str, ...]:
        """The images whose scores are still to be given, in their order: all of a shard that is not complete."""
        return tuple(
            image_id
            for number in self._own
            if number not in self._done
            for image_id in self._shards[number]
            if image_id not in self._waiting.get(number, {})
        )

    @property
    def own(self) -> frozenset[str]:
        """The images of this rank, complete or not."""
        return frozenset(image_id for number in self._own for image_id in self._shards[number])

    def write(self, image_id: str, classes: Sequence[int] | NDArray[Any], probabilities: NDArray[Any]) -> None:
        """Take an image's scores: class indices (n,), 0 for the background, and their probabilities (n, H, W), 0..1."""
        number = self._shard_of[image_id]
        indices = np.asarray(classes, dtype=np.uint16)
        if probabilities.ndim != 3 or indices.shape != probabilities.shape[:1] or probabilities.size == 0:
            raise ValueError(f"{image_id}: expected {indices.shape} x H x W probabilities, got {probabilities.shape}")
        if number in self._done:
            raise ValueError(f"{image_id} was expected once, its shard is complete")
        waiting = self._waiting.setdefault(number, {})
        waiting[image_id] = (indices, probabilities.astype(self._dtype))
        if len(waiting) == len(self._shards[number]):
            self._write_shard(number, self._waiting.pop(number))
            self._done.add(number)

    def finish(self) -> None:
        """Write the index. All images must have been given, by all ranks to theirs."""
        if self.missing:
            raise ValueError(f"expected the scores of all images, {len(self.missing)} are missing")
        world().barrier()
        if world().main:
            rows = {image_id: row for row, image_id in enumerate(self._image_ids)}
            write_index(self._folder, self._attributes, [len(group) for group in self._shards], rows)
        world().barrier()

    def _write_shard(self, number: int, scores: Mapping[str, tuple[Classes, Probabilities]]) -> None:
        group = self._shards[number]
        layout = ShardLayout(
            columns=(Column(name=COLUMN, shape=(), dtype=self._dtype.str),),
            counts=tuple(scores[image_id][1].size for image_id in group),
            about=tuple(_about(image_id, *scores[image_id]) for image_id in group),
            attributes=self._attributes,
        )
        writer = ShardWriter(self._folder / shard_name(number), layout, flush_rows=len(group), flush_seconds=np.inf)
        for row in writer.missing:
            writer.write(row, {COLUMN: scores[group[row]][1].reshape(-1)})
        writer.finish()

    def _is_intact(self, number: int) -> bool:
        path = self._folder / shard_name(number)
        if not path.exists():
            return False
        try:
            reader = ShardReader(path, REMEDY)
            for row in range(len(reader.layout.counts)):
                reader.read(row)
        except WeakClipError:
            return False
        held = tuple(json.loads(about)["image_id"] for about in reader.layout.about)
        return held == self._shards[number] and dict(reader.layout.attributes) == json.loads(json.dumps(self._attributes))


class ScoreStore:
    """Scores written by a `ScoreWriter`, read from a folder such as data/masks/scores.

    Shards are opened when they are needed, a few at a time, so that memory stays flat; a missing or damaged one raises
    WeakClipError with its name. May be used after a fork; sent to another process, it opens anew.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._shards = ShardFolder(folder, REMEDY, OPEN_AT_MOST)

    def __reduce__(self) -> tuple[type["ScoreStore"], tuple[Path]]:
        return ScoreStore, (self._folder,)

    @property
    def attributes(self) -> dict[str, Any]:
        """What the writer was given: how the scores were made."""
        return self._shards.attributes

    @property
    def image_ids(self) -> tuple[str, ...]:
        """The images that have scores, in the order of writing."""
        return tuple(self._shards.images)

    def read(self, image_id: str) -> tuple[Classes, Probabilities]:
        """Return an image's class indices (n,) and their probabilities (n, H, W), 0..1, a read-only window on the file."""
        row = self._shards.first_row(image_id)
        about = self._shards.about(row)
        classes = np.array(about["classes"], dtype=np.uint16)
        shape = (len(classes), about["height"], about["width"])
        return classes, self._shards.read(row)[COLUMN].reshape(shape)


def _about(image_id: str, classes: Classes, probabilities: Probabilities) -> str:
    height, width = probabilities.shape[1:]
    return json.dumps({"image_id": image_id, "height": height, "width": width, "classes": classes.tolist()})
