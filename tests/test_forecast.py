"""The arithmetic of forecasts, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from weakclip import forecast as of
from weakclip.datasets.index import Record
from weakclip.features.plan import ViewRecipe


def record(height: int, width: int, tags: tuple[int, ...]) -> Record:
    return Record(image_id="a", photo="a", height=height, width=width, split="train", tags=tags, mask=None)


RECORDS = [record(100, 200, (1, 2)), record(200, 100, (3,))]
NOTHING: dict[str, Any] = {"source": "import", "calibrated_blocks": 0, "affinity_blocks": 0}
WHOLE = ViewRecipe(
    scales=(0.5, 1.0), flip=True, crops=0, crop_scale=(0.5, 2.0), colour=0.0, image_size=64, patch=8, seed=0
)  # views of 2 x 4 and 4 x 8 patches, and upright ones: 2 * (9 + 33) = 84 tokens


def test_labels_are_background_and_tags_and_where_nothing_limits_them_a_share_of_the_other_classes() -> None:
    assert of.labels(RECORDS, 20, limited=True) == 20_000 * 3 + 20_000 * 2
    assert of.labels(RECORDS, 20, limited=False) == pytest.approx(20_000 * (3 + 0.02 * 18) + 20_000 * (2 + 0.02 * 19))


def test_windows_are_counted_in_tokens() -> None:
    # 64 x 128 pixels: windows of 64 at 0, 32 and 64, of 8 x 8 tokens each, all of it mirrored too
    tokens = of.window_tokens(RECORDS, scales=(1.0,), flip=True, base_size=(128, 64), window=64, stride=32, patch=8)
    assert tokens == 2 * 2 * 3 * 64


def test_maps_are_floats_of_each_tag_on_the_largest_grid() -> None:
    assert of.map_bytes(RECORDS, WHOLE) == 4 * 32 * 3


def test_a_mask_is_a_palette_and_some_bytes_of_a_hundred_pixels() -> None:
    assert of.mask_bytes([record(375, 500, (1,))]) * 10_582 == pytest.approx(42e6, rel=0.02)  # VOC's


@pytest.mark.parametrize(
    ("changes", "blocks", "expected"),
    [
        ({"source": "classifier"}, (3, 7, 11), 0),
        ({"source": "import"}, (3, 7, 11), 0),
        # From block 7 on the last four of twelve, and back through the last for each tag.
        ({"source": "gradcam"}, (3, 7, 11), 84 * (4 + 2) + 84 * (4 + 1)),
        ({"source": "gradcam"}, (3, 10, 11), 84 * (1 + 2) + 84 * (1 + 1)),
        # The last five are run from block 3 on, a second path beside five of these eight.
        ({"source": "calibrated", "calibrated_blocks": 5}, (3, 7, 11), 2 * 84 * (8 + 5)),
        ({"source": "calibrated", "calibrated_blocks": 0}, (3, 7, 11), 0),
        # Attention is seen in the largest view and its mirror image alone.
        ({"source": "import", "affinity_blocks": 3}, (3, 7, 11), 2 * 2 * 33 * (4 + 3)),
        ({"source": "gradcam", "affinity_blocks": 3}, (3, 7, 11), 84 * 6 + 84 * 5 + 2 * 2 * 33 * (4 + 3)),
    ],
)
def test_blocks_of_clip_run_again_from_the_latest_stored_tokens(
    changes: dict[str, object], blocks: tuple[int, ...], expected: int
) -> None:
    assert of.tokens_again(RECORDS, WHOLE, **(NOTHING | changes), blocks=blocks, depth=12) == pytest.approx(expected / 12)


def test_the_steps_of_a_training_differ_by_variant_and_by_what_is_computed_again() -> None:
    def step(online: bool, variant: str = "repaired", recompute: bool = False) -> float:
        return of.step_passes(variant, recompute=recompute, online=online)

    cached = step(online=False)
    assert step(online=True) == cached + 1
    assert step(online=False, recompute=True) == pytest.approx(1.4 * cached)
    assert step(online=True, recompute=True) == pytest.approx(1.4 * cached + 1)  # the frozen encoder keeps nothing
    published = step(online=True, variant="published")
    assert published > of.TRAINING * (1 + of.DECODER)  # forward and backward through encoder and decoder, at least
