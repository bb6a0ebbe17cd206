"""A small network of the released code's shapes, and the names of its tensors in a released checkpoint."""

from weakclip.clip.bare import ClipArchitecture, bare_clip
from weakclip.network.published import build_published
from weakclip.network.weakclip import WeakClip, WeakClipSizes

SIZES = WeakClipSizes(
    context_length=8, pyramid_adapter=True, co_attention=True, decoder_width=8, decoder_layers=2, decoder_heads=4, channels=8
)
ARCHITECTURE = ClipArchitecture(
    embedding=8,
    patch=16,
    image_size=64,
    width=24,
    layers=12,
    heads=12,
    context_length=13,
    text_width=8,
    text_layers=1,
    text_heads=8,
)
NAMES = ("cat", "dog")


def released_names() -> list[str]:
    """Names of a released checkpoint with one text block and two decoder layers."""
    block = ["attn.in_proj_weight", "attn.in_proj_bias", "attn.out_proj.weight", "attn.out_proj.bias", "mlp.c_fc.weight"]
    block += ["mlp.c_fc.bias", "mlp.c_proj.weight", "mlp.c_proj.bias", *(f"ln_{n}.{kind}" for n in (1, 2) for kind in KINDS)]
    names = ["contexts", "gamma", "beta", "backbone.class_embedding", "backbone.positional_embedding", "backbone.proj"]
    names += ["backbone.conv1.weight", *both("backbone.ln_pre"), *both("backbone.ln_post")]
    names += [f"backbone.transformer.resblocks.{n}.{part}" for n in range(12) for part in block]
    norm = [*KINDS, "running_mean", "running_var", "num_batches_tracked"]
    names += [*both("backbone.fpn1.0"), *both("backbone.fpn1.1"), *(f"backbone.fpn1.2.{kind}" for kind in norm)]
    names += [name for part in ("fpn1.4", "fpn2.0", "fpn2.1", "fpn3", "fpn4.0") for name in both(f"backbone.{part}")]
    names += ["text_encoder.positional_embedding", "text_encoder.text_projection", "text_encoder.token_embedding.weight"]
    names += [*both("text_encoder.ln_final"), *(f"text_encoder.transformer.resblocks.0.{part}" for part in block)]
    names += [name for part in ("0", "1", "2") for name in both(f"context_decoder.memory_proj.{part}")]
    names += [
        name
        for part in ("text_proj", "out_proj", "anti_out_proj")
        for n in "01"
        for name in both(f"context_decoder.{part}.{n}")
    ]
    for stack in ("decoder", "anti_decoder"):
        for layer in range(2):
            start = f"context_decoder.{stack}.{layer}"
            for attention in ("self_attn", "cross_attn"):
                names += [f"{start}.{attention}.{part}.weight" for part in ("q_proj", "k_proj", "v_proj")]
                names += both(f"{start}.{attention}.proj")
            names += [name for part in ("norm1", "norm2", "norm3", "mlp.0", "mlp.3") for name in both(f"{start}.{part}")]
    names += [name for part in ("lateral_convs", "fpn_convs") for n in range(4) for name in both(f"neck.{part}.{n}.conv")]
    for level, blocks in enumerate((1, 1, 2, 3)):
        for n in range(blocks):
            start = f"decode_head.scale_heads.{level}.{2 * n}"
            names += [f"{start}.conv.weight", *(f"{start}.bn.{kind}" for kind in norm)]
    return [*names, *both("decode_head.conv_seg")]


KINDS = ("weight", "bias")


def both(name: str) -> list[str]:
    return [f"{name}.{kind}" for kind in KINDS]


def fresh_network() -> WeakClip:
    """The network, with weights drawn from torch's generator."""
    return build_published(bare_clip(ARCHITECTURE, "none"), blocks=[3, 5, 7, 11], class_names=NAMES, sizes=SIZES)
