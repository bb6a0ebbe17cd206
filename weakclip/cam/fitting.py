"""Training the CAM classifier on cached features."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from weakclip.cam.classifier import CamClassifier, mean_average_precision, tag_loss, tag_scores
from weakclip.clip.image_encoder import VisualProjection
from weakclip.datasets.index import Record
from weakclip.features.store import FeatureStore
from weakclip.prefetch import Prefetcher
from weakclip.ranks import world
from weakclip.runlog import StepLog
from weakclip.sampling import batch_indices
from weakclip.seeding import rng
from weakclip.training import backward, cosine_schedule, train

BEST_TOKENS = 0.1
"""Share of an image's tokens that its tag score is the mean of: about the size of a small object."""


@dataclass(frozen=True, kw_only=True)
class CamTraining:
    """``lr``: peak, cosine. ``weight_decay``: pulls the classifier back to CLIP's zero-shot answer."""

    iterations: int
    batch_size: int
    lr: float
    weight_decay: float


class VisualEmbeddings:
    """CLIP's visual embeddings of stored views: projected tokens of the last block."""

    def __init__(self, store: FeatureStore, projection: VisualProjection) -> None:
        self.store, self.projection = store, projection
        self.last = store.blocks[-1]

    @torch.inference_mode()
    def tokens(self, row: int) -> Tensor:
        """(h w, E) of a row, without the class token."""
        stored = torch.from_numpy(self.store.read(row, [self.last])[self.last][1:].astype("float32"))
        projected: Tensor = self.projection(stored)
        return projected


def tag_matrix(records: Sequence[Record], num_foreground: int) -> Tensor:
    """(n, num_foreground) bool."""
    tags = torch.zeros(len(records), num_foreground, dtype=torch.bool)
    for row, record in zip(tags, records, strict=True):
        row[[tag - 1 for tag in record.tags]] = True
    return tags


def fit_classifier(
    classifier: CamClassifier,
    embeddings: VisualEmbeddings,
    records: Sequence[Record],
    training: CamTraining,
    *,
    seed: int,
    folder: Path,
    log: StepLog,
) -> None:
    """Trains the classifier on image-level tags; each step takes one stored view of each image of its batch.

    Ranks take parts of it.
    """
    part = world().part(training.batch_size, "cam.batch_size")
    tags = tag_matrix(records, classifier.num_foreground)
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=training.lr, weight_decay=training.weight_decay)

    def images(step: int) -> list[int]:
        return batch_indices(step, count=len(records), batch_size=training.batch_size, seed=seed, purpose="cam")

    def tokens(step: int) -> list[Tensor]:
        draw = rng(seed, "cam views", step)
        chosen = images(step)
        rows = [int(draw.choice(embeddings.store.whole_rows(records[index].image_id))) for index in chosen]
        return [embeddings.tokens(row).clone() for row in rows[part]]

    def losses(step: int) -> dict[str, Tensor]:
        batch = ahead(step)
        logits = classifier(torch.cat(batch)).split([len(tokens) for tokens in batch])
        scores = torch.cat([tag_scores(tokens[None], classifier.num_foreground, BEST_TOKENS) for tokens in logits])
        return {"tag_loss": tag_loss(scores, tags[images(step)[part]])}

    with closing(Prefetcher(tokens, last=training.iterations - 1)) as ahead:
        train(
            title="CAM classifier",
            modules={"classifier": classifier},
            optimizer=optimizer,
            iterations=training.iterations,
            gradients_of_step=lambda step: backward(losses(step)),
            rates_of_step=lambda step: [cosine_schedule(step, lr=training.lr, iterations=training.iterations, warmup=0)],
            names_of_step=lambda step: [records[index].image_id for index in images(step)[part]],
            folder=folder,
            checkpoint_every=max(1, training.iterations // 4),
            log=log,
        )


@torch.inference_mode()
def tag_precision(classifier: CamClassifier, embeddings: VisualEmbeddings, records: Sequence[Record]) -> float:
    """Mean average precision of the tag scores on the plain view of each image, 0..1."""
    scores = [
        tag_scores(
            classifier(embeddings.tokens(embeddings.store.whole_rows(record.image_id)[0]))[None],
            classifier.num_foreground,
            BEST_TOKENS,
        )
        for record in records
    ]
    return mean_average_precision(torch.cat(scores), tag_matrix(records, classifier.num_foreground))
