"""The layers of an encoder in their order, and the rate at which each learns.

Layer-wise rate decay (Clark et al. 2020, ELECTRA; for vision transformers Bao et al. 2022, BEiT): the first layers of a
pretrained network hold what all pictures have in common and should move least.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from torch import nn

from weakclip.errors import WeakClipError

# timm calls the parts that follow each other blocks, stages or layers: `blocks.3`, `stages_2`, `layer4`, `s1`, `stage2`.
NUMBERED: Final = re.compile(r"^(?:network\.)?(?:model\.)?(?:blocks|stages|stage|layers|layer|s)[._]?(\d+)\.")


def layer_factors(layers: int, decay: float) -> list[float]:
    """Factors of the learning rate from the first of so many layers to the last: ``decay^(layers - 1)`` to 1."""
    return [decay ** (layers - 1 - layer) for layer in range(layers)]


def layers_of(encoder: nn.Module, name: str) -> list[list[nn.Parameter]]:
    """The encoder's parameters by layer: stem or embedding, then each block of a transformer or stage of other networks.

    What stands behind the last block, such as a norm, counts with it. ``name``: the encoder's, for the error message.

    Raises:
        WeakClipError: the encoder is not made of numbered blocks or stages.
    """
    named = list(encoder.named_parameters())
    found = {parameter: match for parameter, _ in named if (match := NUMBERED.match(parameter))}
    numbers = sorted({int(match[1]) for match in found.values()})
    if not numbers:
        problem = f"deeplab.layer_decay needs an encoder of numbered blocks or stages, which {name!r} does not have"
        raise WeakClipError(problem, "set deeplab.layer_decay to 1.0, or choose another encoder")
    layers: list[list[nn.Parameter]] = [[] for _ in range(1 + len(numbers))]
    begun = False
    for parameter, value in named:
        if parameter in found:
            layers[1 + numbers.index(int(found[parameter][1]))].append(value)
            begun = True
        else:
            layers[-1 if begun and not _is_embedding(parameter) else 0].append(value)
    return layers


def split(parameters: Sequence[nn.Parameter], weight_decay: float) -> list[dict[str, object]]:
    """Two groups of an optimiser: matrices, which decay, and vectors (norms, biases), which do not."""
    return [
        {"params": [p for p in parameters if (p.ndim > 1) == matrices], "weight_decay": weight_decay if matrices else 0.0}
        for matrices in (True, False)
    ]


def _is_embedding(parameter: str) -> bool:
    return parameter.rpartition(".")[2].endswith(("embed", "token"))
