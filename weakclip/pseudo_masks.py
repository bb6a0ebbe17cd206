"""Class scores and pseudo masks of the training images from a trained WeakCLIP."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from weakclip.affinity_refinement import AffinityRefinement, refine_logits
from weakclip.clip.image_encoder import ImageEncoder
from weakclip.datasets.index import Record
from weakclip.device import device
from weakclip.errors import WeakClipError
from weakclip.folding import fold_laterals
from weakclip.images import read_photo
from weakclip.inference import Fusion, Predict, among_tags, fuse_probabilities, limit_to_winners
from weakclip.masks import is_mask, mask_file, winners, write_mask
from weakclip.network.weakclip import WeakClip
from weakclip.prefetch import Prefetcher
from weakclip.progress import Bar
from weakclip.rounding import round_weights
from weakclip.scores import HALF, IMAGES_IN_SHARD, ScoreStore, ScoreWriter
from weakclip.second_encoder import EncoderPair
from weakclip.selection import Selection
from weakclip.write_behind import WriteBehind


@torch.inference_mode()
def predictor(model: WeakClip, encoder: ImageEncoder | EncoderPair, refinement: AffinityRefinement | None = None) -> Predict:
    """Pixels to logits, the text embeddings computed once. ``refinement``: of the logits of each window; none where it is
    None. A network in bfloat16 is for inference from then on (`round_weights`)."""
    if refinement is not None and refinement.blocks > encoder.depth:
        raise WeakClipError(
            f"masks.affinity_blocks is {refinement.blocks}, and the encoder has {encoder.depth} blocks",
            f"set it to at most {encoder.depth}",
        )
    if refinement is not None and model.encoder is not None:
        raise WeakClipError(
            "masks.affinity_blocks refines by the attention of a frozen encoder, and this network has one of its own",
            "set masks.affinity_blocks to 0, or train the repaired variant",
        )
    model.to(device())
    encoder.to(device())
    texts = model.eval().text_encoder()
    model = fold_laterals(model)
    if model.precision == "bfloat16":
        round_weights(model)
        round_weights(encoder)

    def predict(images: Tensor) -> Tensor:
        height, width = (side // encoder.patch for side in images.shape[2:])
        if refinement is None:
            logits: Tensor = model(encoder(images), height, width, texts)[0]
            return logits
        tokens, attention = encoder.with_attention(images, refinement.blocks)
        logits, _, features = model.decode(tokens, height, width, texts)
        return refine_logits(logits, features, attention, (height, width), refinement.share)

    return predict


def write_masks(
    records: Sequence[Record],
    predict: Predict,
    num_classes: int,
    fusion: Fusion,
    scores: Path,
    pseudo: Path,
    attributes: dict[str, object],
    *,
    tag_filter: bool,
    share_absent: bool,
    rows: Sequence[int] | None = None,
) -> None:
    """Writes the scores of all images into ``scores`` and of each its pseudo mask, ``pseudo/<image_id>.png``, the most probable
    class of every pixel; decodes ahead, writes behind, and goes on with what is there. Ranks share the images.

    ``num_classes``: of the network. ``rows``: which of its probabilities are the classes of the data set, in their order; all
    where it is None. ``tag_filter``: keep background and the image's tags, renormalised as ``share_absent`` says
    (`among_tags`); otherwise the classes that win a pixel.
    """
    pseudo.mkdir(parents=True, exist_ok=True)
    writer = ScoreWriter(scores, (record.image_id for record in records), attributes)
    missing = writer.missing.places
    todo, done = Selection(records, missing), Selection(records, np.setdiff1d(writer.own.places, missing))
    # What is missing is whole shards. Photos go through the network with those of their shard, and so with the same ones when
    # a run goes on and whichever rank has the shard.
    starts = range(0, len(todo), IMAGES_IN_SHARD)
    rows = range(num_classes) if rows is None else rows

    def chunk_of(number: int) -> Sequence[Record]:
        return todo[starts[number] : starts[number] + IMAGES_IN_SHARD]

    def read_chunk(number: int) -> list[NDArray[np.uint8]]:
        return [read_photo(record.photo, record.crc32) for record in chunk_of(number)]

    def write(record: Record, probabilities: NDArray[np.float32]) -> None:
        if tag_filter:
            classes, kept = np.array([0, *record.tags]), among_tags(probabilities, share_absent=share_absent)
        else:
            classes, kept = limit_to_winners(probabilities)
        stored = kept.astype(HALF)
        write_pseudo_mask(pseudo, record.image_id, classes, stored)  # first: of scores that are there, the masks are
        writer.write(record.image_id, classes, stored)

    with (
        Bar(total=len(done) + len(todo), title="masks", done=len(done)) as bar,
        closing(Prefetcher(read_chunk, last=len(starts) - 1)) as decoded,
        WriteBehind() as behind,
    ):
        for number in range(len(starts)):
            chunk = chunk_of(number)
            wanted = [[rows[index] for index in (0, *record.tags)] if tag_filter else rows for record in chunk]
            fused = fuse_probabilities(predict, decoded(number), num_classes, fusion, wanted)
            for record, probabilities in zip(chunk, fused, strict=True):
                behind(write, record, probabilities)
                bar.advance(1)
    writer.finish()
    store = ScoreStore(scores)
    for record in done:  # of an interrupted run
        if not is_mask(mask_file(pseudo, record.image_id)):
            write_pseudo_mask(pseudo, record.image_id, *store.read(record.image_id))


def write_pseudo_mask(folder: Path, image_id: str, classes: NDArray[np.integer], probabilities: NDArray[np.floating]) -> None:
    """The most probable of an image's classes (n,) at every pixel of their probabilities (n, H, W), as a palette PNG."""
    mask = classes.astype(np.uint8)[winners(probabilities.astype(np.float32))[0]]
    write_mask(mask_file(folder, image_id), mask)
