"""What becomes of CLIP's weights when the published variant starts from them."""

import pytest
import torch

from tests.parity.cases import Case, cases, golden, marked, read_json, weights
from weakclip.clip.bare import ClipArchitecture, bare_clip
from weakclip.clip.model import Clip
from weakclip.network.published import TOKENS_OF_A_NAME, build_published, start_from_clip
from weakclip.network.weakclip import WeakClipSizes
from weakclip.released.names import our_name

LAYERS = 1  # of the context decoders, which CLIP knows nothing of


def sizes(contexts: int) -> WeakClipSizes:
    """Of what is built on CLIP; anything would do but the number of contexts."""
    return WeakClipSizes(
        context_length=contexts,
        pyramid_adapter=True,
        co_attention=True,
        decoder_width=8,
        decoder_layers=LAYERS,
        decoder_heads=2,
        channels=8,
    )


def filled_clip(facts: dict) -> Clip:
    """A CLIP of the shapes in the file, whose tensors hold what the file says."""
    shapes = facts["clip_keys"]
    layers = {
        prefix: 1
        + max(int(key.split("resblocks.")[1].split(".")[0]) for key in shapes if key.startswith(f"{prefix}transformer"))
        for prefix in ("visual.", "")
    }
    patch = shapes["visual.conv1.weight"][2]
    clip = bare_clip(
        ClipArchitecture(
            embedding=shapes["visual.proj"][1],
            patch=patch,
            image_size=round((shapes["visual.positional_embedding"][0] - 1) ** 0.5) * patch,
            width=shapes["visual.conv1.weight"][0],
            layers=layers["visual."],
            heads=1,
            context_length=shapes["positional_embedding"][0],
            text_width=shapes["positional_embedding"][1],
            text_layers=layers[""],
            text_heads=1,
        ),
        "filled",
    )
    own = clip.network.state_dict()
    made = {key: torch.from_numpy(weights().fill(f"clip:{key}", shapes[key], facts["seed"])) for key in own}
    clip.network.load_state_dict({key: value.reshape(own[key].shape) for key, value in made.items()})
    clip.network.requires_grad_(False)
    return clip


@pytest.mark.parametrize("case", marked(cases("clip_init")))
def test_starting_from_clip(case: Case) -> None:
    stored, facts = golden().Golden(case.path), read_json(case, "facts")
    clip = filled_clip(facts)
    grid = clip.network.visual.grid_size
    for size in case["image_sizes"]:
        moving = start_from_clip(clip, size, case["contexts"])
        assert moving.network.visual.grid_size == (size // clip.patch, size // clip.patch)
        stored.check(f"vision_pos_{size}", moving.network.visual.positional_embedding.detach().numpy())
        length = case["contexts"] + TOKENS_OF_A_NAME
        stored.check(f"text_pos_{length}", moving.network.positional_embedding.detach().numpy(), atol=0, rtol=0)
        assert moving.network.context_length == length
    assert clip.network.visual.grid_size == grid  # the frozen one is as it was


@pytest.mark.parametrize("case", marked(cases("clip_init")))
def test_every_tensor_of_clip_arrives_under_its_name(case: Case) -> None:
    facts = read_json(case, "facts")
    clip = filled_clip(facts)
    last = len(clip.network.visual.transformer.resblocks) - 1
    moving = start_from_clip(clip, case["image_sizes"][0], case["contexts"])
    state = build_published(moving, blocks=[last], class_names=["cat"], sizes=sizes(case["contexts"])).state_dict()
    source = clip.network.state_dict()
    for key, value in source.items():
        if key == "logit_scale" or key.endswith("positional_embedding"):
            continue
        released = f"backbone.{key.removeprefix('visual.')}" if key.startswith("visual.") else f"text_encoder.{key}"
        ours = our_name(released, LAYERS)
        assert ours is not None and torch.equal(state[ours], value), key
    named = {f"text_encoder.{key}" for key in facts["text_keys"]}
    assert named == {f"text_encoder.{key}" for key in source if not key.startswith(("visual.", "logit_scale"))}
    new = {our_name(f"backbone.{key}", LAYERS) for key in facts[f"vision_{case['image_sizes'][0]}"]["missing"]}
    assert new == {key for key in state if key.startswith("pyramid.") and "num_batches_tracked" not in key}


@pytest.mark.parametrize("case", marked(cases("clip_init")))
def test_the_frozen_clip_does_not_move_with_it(case: Case) -> None:
    clip = filled_clip(read_json(case, "facts"))
    moving = start_from_clip(clip, case["image_sizes"][0], case["contexts"])
    with torch.no_grad():
        moving.network.visual.conv1.weight.zero_()
    assert clip.network.visual.conv1.weight.abs().sum() > 0
    assert clip.frozen and not moving.frozen
