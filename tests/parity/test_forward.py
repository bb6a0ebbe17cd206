"""The network on single images: vision, context decoder, neck and head, in one ordinary pass."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.parity.cases import Case, cases, golden, index, marked
from tests.parity.networks import as_pixels, load_network, make_input
from weakclip.inference import ViewLogits, gather_logits
from weakclip.network.trained import TrainedWeakClip


def watch(network: TrainedWeakClip, seen: dict[str, Any]) -> None:
    """Keep what passes between the parts of the network: inputs and outputs by the name of the part."""

    def keep(name: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            seen[name] = (inputs, output)

        return hook

    model = network.model
    assert model.co_attention is not None
    parts = {
        "projection": model.projection,
        "decoder": model.co_attention.decoder,
        "co_attention": model.co_attention,
        "pyramid": model.pyramid,
        "neck": model.neck,
        "head": model.head,
        "model": model,
    }
    for name, part in parts.items():
        part.register_forward_hook(keep(name))


def levels(name: str, maps: list[Tensor]) -> dict[str, Tensor]:
    return {f"{name}{level}": map_ for level, map_ in enumerate(maps)}


def intermediates(seen: dict[str, Any], height: int, width: int) -> dict[str, Tensor]:
    """What the files of the released code hold, by their names."""
    visual = seen["projection"][1]
    texts, _ = seen["co_attention"][1]
    found = {
        "global_embedding": visual[:, 0],
        "visual_embedding": visual[:, 1:].transpose(1, 2).unflatten(-1, (height, width)),
        "text_diff": seen["decoder"][1][0],
        "visual_diff": seen["decoder"][1][1],
        "text_embeddings": texts,
        "score_map": seen["model"][1][1],
        "head_logits": seen["head"][1][0],
    }
    found |= levels("backbone_out", seen["pyramid"][1])
    return found | levels("concat", seen["neck"][0][0]) | levels("neck", seen["neck"][1])


def names_of(case: Case, names: list[str]) -> set[str]:
    """What of the file belongs to the case: all but what another case of the file has by its prefix."""
    prefixes = tuple(other["prefix"] for other in index() if other.file == case.file and other.get("prefix"))
    return {name for name in names if not name.startswith(prefixes)}


@pytest.mark.parametrize("case", marked(cases("forward")))
def test_forward(case: Case) -> None:
    stored, network = golden().Golden(case.path), load_network(case)
    image = make_input(case["input"], case["seed"])
    stored.check("image", image, atol=0, rtol=0)
    seen: dict[str, Any] = {}
    watch(network, seen)
    views = [
        ViewLogits(pixels, network.classes.num_classes) for pixels in as_pixels(network, image).permute(0, 2, 3, 1).numpy()
    ]
    patch = network.encoder.patch

    def predict(pixels: torch.Tensor) -> torch.Tensor:  # part by part; `predictor` folds some of them into one
        logits: torch.Tensor = network.model(network.encoder(pixels), *(side // patch for side in pixels.shape[2:]))[0]
        return logits

    gather_logits(predict, views, lambda size: [(0, size)])

    found = intermediates(seen, image.shape[2] // patch, image.shape[3] // patch)
    found["encode_decode"] = torch.stack([view.logits for view in views])
    found["text_embeddings_raw"] = network.model.text_encoder()[None].detach()
    compared = names_of(case, stored.names()) - {"image", "encode_decode_argmax"}
    assert {"score_map", "encode_decode"} <= compared <= found.keys()
    for name in sorted(compared):
        stored.check(name, found[name].numpy(), **case.tolerance)
    if "encode_decode_argmax" in stored.names():
        winners = found["encode_decode"].argmax(dim=1).numpy().astype(np.uint8)
        assert stored.agreement("encode_decode_argmax", winners) >= 0.999
