"""Class texts enriched by descriptions: what a class looks like, in sentences, gathered and mixed into its embedding.

After ExCEL's text semantic enrichment (Yang et al. 2025, section 3.2; zwyang6/ExCEL), which has a language model write 20
sentences a class and gathers those of all classes to 112 clusters (VOC) or 224 (COCO), five or three to a class. A
description file is JSON, ``{"boat": ["a boat has a hull and often a mast.", ...], ...}``: a class's name, as classes.txt has
it, and its sentences, at least one; classes that are left out have none. Synonyms and background words do not stand in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from weakclip.datasets.labels import is_unicode, read_json
from weakclip.errors import WeakClipError
from weakclip.seeding import rng

FORM = 'write {"class": ["a sentence", ...], ...}, with classes as classes.txt names them'
DROPPED = 0.1
"""Share of a bank that is least like a class and left out of its text, as published."""
ROUNDS = 300
"""Of k-means at most; it ends when no sentence changes its cluster."""


def read_descriptions(path: Path, class_names: Sequence[str]) -> tuple[str, ...]:
    """All sentences of a description file, class by class in the order of ``class_names``."""
    document = read_json(path)
    if not isinstance(document, tuple) or not document:
        raise WeakClipError(f"{path} holds no descriptions by class", FORM)
    content: dict[str, list[str]] = {}
    for name, sentences in document:
        if name not in class_names:
            raise WeakClipError(f"{path}: {name!r} is not a class", FORM)
        if name in content:
            raise WeakClipError(f"{path}: {name!r} is described a second time", FORM)
        if not isinstance(sentences, list) or not sentences or not all(isinstance(one, str) and one for one in sentences):
            raise WeakClipError(f"{path}: the descriptions of {name!r} are not a list of sentences", FORM)
        if not all(map(is_unicode, sentences)):
            raise WeakClipError(f"{path}: a description of {name!r} is not Unicode text", FORM)
        content[name] = sentences
    return tuple(sentence for name in class_names for sentence in content.get(name, ()))


def describe_bank(embeddings: Tensor, clusters: int, seed: int) -> Tensor:
    """Centres (k, E) of the sentences' unit embeddings (n, E), not normalised again; k is ``clusters`` or fewer, if there are
    fewer different sentences.

    k-means (Lloyd) from centres that are drawn far apart (k-means++, Arthur and Vassilvitskii 2007). A centre that loses all
    its sentences goes.
    """
    points = embeddings.double()
    draw = rng(seed, "descriptions")
    centres = points[draw.integers(len(points))][None]
    while len(centres) < clusters:
        distances = torch.cdist(points, centres).amin(dim=1).square()
        if distances.max() < 1e-12:
            break
        places = distances.cumsum(dim=0) / distances.sum()
        chosen = min(int(torch.searchsorted(places, float(draw.random()), right=True)), len(points) - 1)
        centres = torch.cat([centres, points[chosen][None]])
    owners = torch.full((len(points),), -1)
    for _ in range(ROUNDS):
        nearest = torch.cdist(points, centres).argmin(dim=1)
        if torch.equal(nearest, owners):
            break
        owners = nearest.unique(return_inverse=True)[1]  # numbered anew, where a centre has lost all
        centres = torch.stack([points[owners == index].mean(dim=0) for index in range(int(owners.max()) + 1)])
    return centres.to(embeddings.dtype)


def enrich(texts: Tensor, bank: Tensor, dropped: int | None = None) -> Tensor:
    """Unit class texts (c, E) plus the mean of the bank (k, E), weighted by a softmax of their likeness: (c, E), unit again.

    The ``dropped`` least alike have no weight; by default a tenth of the bank. No temperature divides the softmax, as
    published, so it is close to uniform.
    """
    dropped = int(DROPPED * len(bank)) if dropped is None else dropped
    likeness = texts @ bank.T
    if dropped:
        lowest = likeness.topk(dropped, dim=-1, largest=False).indices
        likeness = likeness.scatter(-1, lowest, -torch.inf)
    return functional.normalize(texts + likeness.softmax(dim=-1) @ bank, dim=-1)
