"""The texts that maps are made from: classes, then background words, as sentences, perhaps enriched by descriptions."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from weakclip.cam.descriptions import describe_bank, enrich, read_descriptions
from weakclip.clip.model import Clip
from weakclip.clip.prompts import background_phrases, check_background_words, describe, fill_template
from weakclip.clip.text_encoder import encode_texts
from weakclip.datasets.index import ClassList


def class_texts(
    clip: Clip, classes: ClassList, *, template: str, descriptions: str, description_clusters: int, seed: int
) -> Tensor:
    """Unit embeddings (T, E): the classes, each in one sentence with its synonyms, then the background words.

    ``template``: of the sentences. ``descriptions``: a file of sentences about the classes, see
    `weakclip.cam.descriptions`, gathered to ``description_clusters``; none if empty.
    """
    check_background_words(classes.names, classes.synonyms, classes.background_words)
    names = [describe(name, others) for name, others in zip(classes.names, classes.synonyms, strict=True)]
    phrases = (*names, *background_phrases(classes.background_words))
    texts = encode_texts(clip, [fill_template(template, phrase) for phrase in phrases])
    if not descriptions:
        return texts
    sentences = read_descriptions(Path(descriptions), classes.names)
    bank = describe_bank(encode_texts(clip, sentences), description_clusters, seed)
    enriched = enrich(texts[: len(names)], bank)
    return torch.cat([enriched, texts[len(names) :]])
