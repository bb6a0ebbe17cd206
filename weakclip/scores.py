"""The stored class scores of images: for each image its own classes and their probabilities, pixel by pixel."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from weakclip.errors import WeakClipError
from weakclip.features.index import Index, ShardFolder, shard_name, write_index
from weakclip.features.shards import Column, ShardLayout, ShardReader
from weakclip.features.writer import ShardWriter, forget_journals
from weakclip.file_names import is_file
from weakclip.image_figures import ImageFigures, ImageIds
from weakclip.ranks import world
from weakclip.selection import Selection

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
        image_ids: Iterable[str],
        attributes: Mapping[str, object],
        *,
        images_per_shard: int = IMAGES_IN_SHARD,
        dtype: str = HALF,
    ) -> None:
        self._folder, self._image_ids, self._attributes = folder, ImageIds(image_ids), dict(attributes)
        self._dtype = np.dtype(dtype)
        if not self._image_ids or images_per_shard < 1:
            raise ValueError("expected images, each once, and at least one in a shard")
        self._images_per_shard = images_per_shard
        self._count = -(-len(self._image_ids) // images_per_shard)
        folder.mkdir(parents=True, exist_ok=True)
        self._own = world().share(range(self._count))
        self._done = {number for number in self._own if self._is_intact(number)}
        forget_journals(folder, {shard_name(number) for number in self._done})
        self._waiting: dict[int, dict[str, tuple[Classes, Probabilities]]] = {}

    @property
    def missing(self) -> Selection[str]:
        """The images whose scores are still to be given, in their order: all of a shard that is not complete."""
        groups = (self._group(number) for number in self._own if number not in self._done)
        places = (place for group in groups for place in group if not self._is_waiting(self._image_ids[place]))
        return Selection(self._image_ids, np.fromiter(places, np.int64))

    @property
    def own(self) -> Selection[str]:
        """The images of this rank, complete or not, in their order."""
        places = (place for number in self._own for place in self._group(number))
        return Selection(self._image_ids, np.fromiter(places, np.int64))

    def write(self, image_id: str, classes: Sequence[int] | NDArray[Any], probabilities: NDArray[Any]) -> None:
        """Take an image's scores: class indices (n,), 0 for the background, and their probabilities (n, H, W), 0..1."""
        number = self._shard_of(image_id)
        indices = np.asarray(classes, dtype=np.uint16)
        if probabilities.ndim != 3 or indices.shape != probabilities.shape[:1] or probabilities.size == 0:
            raise ValueError(f"{image_id}: expected {indices.shape} x H x W probabilities, got {probabilities.shape}")
        if number in self._done:
            raise ValueError(f"{image_id} was expected once, its shard is complete")
        waiting = self._waiting.setdefault(number, {})
        waiting[image_id] = (indices, probabilities.astype(self._dtype))
        if len(waiting) == len(self._group(number)):
            self._write_shard(number, self._waiting.pop(number))
            self._done.add(number)

    def finish(self) -> None:
        """Write the index. All images must have been given, by all ranks to theirs."""
        if self.missing:
            raise ValueError(f"expected the scores of all images, {len(self.missing)} are missing")
        world().barrier()
        if world().main:
            rows = ImageFigures[int](self._image_ids, np.arange(len(self._image_ids)))
            write_index(self._folder, self._attributes, [len(self._group(number)) for number in range(self._count)], rows)
        world().barrier()

    def _group(self, number: int) -> range:
        """The places of a shard's images."""
        return range(len(self._image_ids))[number * self._images_per_shard : (number + 1) * self._images_per_shard]

    def _shard(self, number: int) -> str:
        return f"{self._folder}/{shard_name(number)}"

    def _shard_of(self, image_id: str) -> int:
        place = self._image_ids.place(image_id)
        if place is None:
            raise KeyError(image_id)
        return place // self._images_per_shard

    def _is_waiting(self, image_id: str) -> bool:
        return image_id in self._waiting.get(self._shard_of(image_id), ())

    def _write_shard(self, number: int, scores: Mapping[str, tuple[Classes, Probabilities]]) -> None:
        group = [self._image_ids[place] for place in self._group(number)]
        layout = ShardLayout(
            columns=(Column(name=COLUMN, shape=(), dtype=self._dtype.str),),
            counts=tuple(scores[image_id][1].size for image_id in group),
            about=tuple(_about(image_id, *scores[image_id]) for image_id in group),
            attributes=self._attributes,
        )
        writer = ShardWriter(self._shard(number), layout, flush_rows=len(group), flush_seconds=np.inf)
        for row in writer.missing:
            writer.write(row, {COLUMN: scores[group[row]][1].reshape(-1)})
        writer.finish()

    def _is_intact(self, number: int) -> bool:
        if not is_file(self._shard(number)):
            return False
        try:
            reader = ShardReader(self._shard(number), REMEDY)
            for row in range(len(reader.layout.counts)):
                reader.read(row)
        except WeakClipError:
            return False
        held = tuple(json.loads(about)["image_id"] for about in reader.layout.about)
        group = tuple(self._image_ids[place] for place in self._group(number))
        return held == group and dict(reader.layout.attributes) == json.loads(json.dumps(self._attributes))


class ScoreStore:
    """Scores written by a `ScoreWriter`, read from a folder such as data/masks/scores.

    Shards are opened when they are needed, a few at a time, so that memory stays flat; a missing or damaged one raises
    WeakClipError with its name. May be used after a fork; sent to another process, it opens anew.
    """

    def __init__(self, folder: Path | str, part: Index | None = None) -> None:
        self._folder, self._part = str(folder), part
        self._shards = ShardFolder(folder, REMEDY, OPEN_AT_MOST, part)

    def __reduce__(self) -> tuple[type[ScoreStore], tuple[str, Index | None]]:
        return ScoreStore, (self._folder, self._part)

    def part(self, image_ids: Iterable[str]) -> ScoreStore:
        """The scores of a few images: sent to another process, it opens without reading the index of all."""
        return ScoreStore(self._folder, self._shards.index.part(image_ids))

    @property
    def attributes(self) -> dict[str, Any]:
        """What the writer was given: how the scores were made."""
        return self._shards.attributes

    @property
    def image_ids(self) -> tuple[str, ...]:
        """The images that have scores, in the order of writing."""
        return tuple(self._shards.index.images)

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
