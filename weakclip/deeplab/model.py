"""The choice of a segmentation network."""

from __future__ import annotations

from weakclip.datasets.index import ClassList
from weakclip.deeplab import deeplabv1, deeplabv3plus
from weakclip.deeplab.network import DeepLab


def build_deeplab(*, network: str, encoder: str, encoder_weights: str, num_classes: int, output_stride: int) -> DeepLab:
    """A DeepLab whose decoder is fresh from torch's generator.

    ``network``: deeplabv3plus or deeplabv1_resnet38. ``encoder``, ``encoder_weights``, ``output_stride``: what the network's
    own ``build`` takes. ``num_classes``: K, with background.
    """
    builders = {"deeplabv3plus": deeplabv3plus.build, "deeplabv1_resnet38": deeplabv1.build}
    if network not in builders:
        raise ValueError(f"expected the network {' or '.join(builders)}, got {network!r}")
    return builders[network](
        encoder=encoder, encoder_weights=encoder_weights, num_classes=num_classes, output_stride=output_stride
    )


def network_card(model: DeepLab, network: str, encoder: str, output_stride: int, classes: ClassList) -> dict[str, object]:
    """What the card of a network's weights says of the network: enough to build it again, and what it takes and gives."""
    return {
        "network": network,
        "encoder": encoder,
        "output_stride": output_stride,
        "num_classes": classes.num_classes,
        "classes": list(classes.with_background),
        "input": "RGB pixel values 0..255, normalised by the network",
        "mean_colour": list(model.fill),
    }
