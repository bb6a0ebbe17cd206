"""Names of parameters in a released WeakCLIP checkpoint, and what they are called in `weakclip.network.published`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from torch import Tensor

ATTENTION: Final = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "proj": "out"}
PYRAMID: Final = {"fpn1": "to_4x", "fpn2": "to_2x", "fpn3": "to_1x", "fpn4": "to_half"}
TEXT: Final = {"positional_embedding": "positions", "text_projection": "projection", "ln_final": "norm"}
DECODER_PARTS: Final = {
    "memory_proj": "project_memory",
    "text_proj": "project_text",
    "out_proj": "text_out",
    "anti_out_proj": "visual_out",
}
STACKS: Final = {"decoder": "text_layers", "anti_decoder": "visual_layers"}
HEAD_PARTS: Final = {"conv": "0", "bn": "1"}

Rename = Callable[[re.Match[str]], str]

RULES: Final[tuple[tuple[str, Rename], ...]] = (
    (r"contexts", lambda m: "text_encoder.contexts"),
    (r"(gamma|beta)", lambda m: f"co_attention.{m[1]}"),
    (r"backbone\.(fpn[1-4])\.(.+)", lambda m: f"pyramid.{PYRAMID[m[1]]}.{m[2]}"),
    (r"backbone\.(.+)", lambda m: f"encoder.visual.{m[1]}"),
    (r"text_encoder\.(positional_embedding|text_projection)", lambda m: f"text_encoder.{TEXT[m[1]]}"),
    (r"text_encoder\.ln_final\.(.+)", lambda m: f"text_encoder.{TEXT['ln_final']}.{m[1]}"),
    (r"(text_encoder\.(?:transformer|token_embedding)\..+)", lambda m: m[1]),
    (
        r"context_decoder\.(memory_proj|text_proj|out_proj|anti_out_proj)\.(.+)",
        lambda m: f"co_attention.decoder.{DECODER_PARTS[m[1]]}.{m[2]}",
    ),
    (
        r"context_decoder\.(decoder|anti_decoder)\.last\.(self|cross)_attn\.(\w+)\.(.+)",
        lambda m: f"co_attention.decoder.{STACKS[m[1]]}.0.{m[2]}_attention.{ATTENTION[m[3]]}.{m[4]}",
    ),
    (
        r"context_decoder\.(decoder|anti_decoder)\.last\.((?:norm[123]|mlp)\..+)",
        lambda m: f"co_attention.decoder.{STACKS[m[1]]}.0.{m[2]}",
    ),
    (r"neck\.lateral_convs\.(\d)\.conv\.(.+)", lambda m: f"neck.fpn.inner_blocks.{m[1]}.0.{m[2]}"),
    (r"neck\.fpn_convs\.(\d)\.conv\.(.+)", lambda m: f"neck.fpn.layer_blocks.{m[1]}.0.{m[2]}"),
    (r"decode_head\.conv_seg\.(.+)", lambda m: f"head.classify.{m[1]}"),
    (
        # Every second place of a level is an up-sampling without parameters.
        r"decode_head\.scale_heads\.(\d)\.(\d)\.(conv|bn)\.(.+)",
        lambda m: f"head.levels.{m[1]}.{int(m[2]) // 2}.{HEAD_PARTS[m[3]]}.{m[4]}",
    ),
)
LAYER: Final = re.compile(r"context_decoder\.(decoder|anti_decoder)\.(\d+)\.")


def decoder_layers(names: Iterable[str]) -> int:
    """Number of layers of each context decoder."""
    return 1 + max((int(match[2]) for match in map(LAYER.match, names) if match), default=-1)


def our_name(name: str, layers: int) -> str | None:
    """Our name for a released one, or None for what never influences anything: all but the last of the ``layers``.

    Raises:
        KeyError: the name is not of a released checkpoint.
    """
    match = LAYER.match(name)
    if match and int(match[2]) < layers - 1:
        return None
    plain = LAYER.sub(r"context_decoder.\1.last.", name)
    for pattern, rename in RULES:
        found = re.fullmatch(pattern, plain)
        if found:
            return rename(found)
    raise KeyError(name)


def rename_state(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str], list[str]]:
    """A released state dictionary under our names; the names that are not used; the names that are not known."""
    layers = decoder_layers(state)
    renamed, unused, unknown = {}, [], []
    for name, value in state.items():
        try:
            ours = our_name(name, layers)
        except KeyError:
            unknown.append(name)
            continue
        if ours is None:
            unused.append(name)
        else:
            renamed[ours] = value[0] if name == "contexts" and value.ndim == 3 else value
    return renamed, unused, unknown
