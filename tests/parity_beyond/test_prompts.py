"""Prompt lists of CLIP-ES: what the project knows of them, by their checksums; tokens, embeddings, and the background check."""

import hashlib
import json
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from tests.parity_beyond.cases import Case, cases, manifest, marked, opened
from tests.parity_beyond.networks import load_network, phrases
from weakclip.clip.prompts import check_background_words, fill_template
from weakclip.clip.text_encoder import encode_texts, tokenize
from weakclip.datasets import coco_classes, voc12
from weakclip.errors import WeakClipError

VOC_PROMPTS = {
    "bird": "bird avian",
    "chair": "chair seat",
    "person": "person with clothes,people,human",
    "tvmonitor": "tvmonitor screen",
}
VOC_SPELLING = {
    "motorcycle": "motorbike", "airplane": "aeroplane", "couch": "sofa", "potted plant": "pottedplant",
    "dining table": "diningtable", "tv": "tvmonitor",
}  # fmt: skip
COCO_PROMPTS = {
    **VOC_PROMPTS, "backpack": "backpack,bag", "umbrella": "umbrella,parasol", "handbag": "handbag,purse", "tie": "necktie",
    "snowboard": "sknowboard", "baseball glove": "glove", "spoon": "dessertspoon", "remote": "remote control",
    "hair drier": "hairdrier,blowdrier",
}  # fmt: skip


def published() -> dict[str, list[str]]:
    """The lists, put together from the project's class lists and what CLIP-ES changes of them."""
    voc, coco = list(voc12.CLASS_NAMES), [VOC_SPELLING.get(name, name) for name in coco_classes.CLASS_NAMES]
    # The project leaves `keyboard` out of the words for VOC, as it leaves out what is a class of COCO.
    words = list(voc12.BACKGROUND_WORDS)
    words.insert(words.index("helmet"), "keyboard")
    return {
        "voc_class_names": voc,
        "voc_class_prompts": [VOC_PROMPTS.get(name, name) for name in voc],
        "voc_background_words": words,
        "coco_class_names": coco,
        "coco_class_prompts": [COCO_PROMPTS.get(name, name) for name in coco],
        "coco_background_words": list(coco_classes.BACKGROUND_WORDS),
    }


def digest(entries: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(entries).encode()).hexdigest()


@pytest.mark.parametrize("case", marked(cases("prompts")))
def test_lists(case: Case) -> None:
    stored = json.loads(case.path.read_text(encoding="utf-8"))
    lists = {name: entry for name, entry in stored.items() if isinstance(entry, dict) and "first" in entry}
    assert lists.keys() == published().keys()
    for name, entry in lists.items():
        mine = published()[name]
        assert (len(mine), mine[0], mine[-1]) == (entry["count"], entry["first"], entry["last"]), name
        assert {word: mine.index(word) for word in entry["samples_with_index"]} == entry["samples_with_index"], name
        assert digest(mine) == entry["sha256"], name
    for name in ("voc", "coco"):
        classes, words = published()[f"{name}_class_names"], published()[f"{name}_background_words"]
        check_background_words(classes, [()] * len(classes), words)
    with pytest.raises(WeakClipError, match="'keyboard' is a class"):
        classes = published()["coco_class_names"]
        check_background_words(classes, [()] * len(classes), published()["voc_background_words"])
    # The descriptions themselves are not in the project; a user's file holds them in this order, at the published clusters.
    for name in ("voc", "coco"):
        described = stored[f"{name}_descriptions"]
        assert described["classes"] == len(published()[f"{name}_class_names"])


@pytest.mark.parametrize("case", marked(cases("text")))
def test_tokens_and_embeddings(case: Case) -> None:
    clip, described = load_network(case), manifest(case)
    sentences = [fill_template(described["template"], phrase) for phrase in phrases(described)]
    with opened(case) as stored:
        ids = torch.zeros(stored.shape("tokens"), dtype=torch.int64)
        made = tokenize(clip, sentences)
        ids[:, : made.shape[1]] = made
        stored.check("tokens", ids)
        padded = torch.zeros(len(sentences), clip.context_length, dtype=torch.long)
        padded[:, : made.shape[1]] = made
        with torch.inference_mode():
            stored.check_of_max("text_raw", clip.network.encode_text(padded).numpy(), 1e-5)
        stored.check_of_max("text_features", encode_texts(clip, sentences), 1e-5)
        several = [
            encode_texts(clip, [fill_template(template, phrase) for phrase in described["class_prompts"]])
            for template in described["three_templates"]
        ]
        mean = torch.stack(several).mean(dim=0)
        stored.check_of_max("text_features_3_templates", np.asarray(mean / mean.norm(dim=1, keepdim=True)), 1e-5)
