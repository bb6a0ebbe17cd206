"""The WeakCLIP network and its assembly: all sizes in one place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from weakclip.clip.image_encoder import ImageEncoder, VisualProjection
from weakclip.clip.model import Clip
from weakclip.clip.prompts import background_phrases, describe
from weakclip.clip.text_encoder import TextEncoder
from weakclip.device import arithmetic
from weakclip.network.context_decoder import CoAttention, ContextDecoder
from weakclip.network.decode_head import DecodeHead
from weakclip.network.neck import Neck
from weakclip.network.pyramid import PlainPyramid, PyramidAdapter
from weakclip.network.recomputed import recomputed
from weakclip.network.score_map import append_scores, merge_background, score_map
from weakclip.network.second_encoder import SecondProjection
from weakclip.weights import load_into


@dataclass(frozen=True, kw_only=True)
class WeakClipSizes:
    """What `build_weakclip` needs besides CLIP and the classes; stored in the card of the weights.

    ``context_length``: learnable contexts, 0 for the class phrases alone. ``pyramid_adapter``, ``co_attention``: off for
    ablations. ``decoder_*``: of the context decoder. ``channels``: of pyramid, neck and head.
    """

    context_length: int
    pyramid_adapter: bool
    co_attention: bool
    decoder_width: int
    decoder_layers: int
    decoder_heads: int
    channels: int

    def card(self) -> dict[str, object]:
        """Its values by name, for the card of the weights."""
        return asdict(self)


class Decoded(NamedTuple):
    """``logits``: (B, K, 4 h, 4 w). ``scores``: the score map (B, K, h, w), cosines. ``features``: what the logits are made of,
    (B, D, 4 h, 4 w), not negative. All float32."""

    logits: Tensor
    scores: Tensor
    features: Tensor


class WeakClip(nn.Module):
    """CLIP tokens to class logits, guided by text.

    ``background``: how many of the first texts stand for the background. ``align_corners``: of the score map, where it is
    resized to the pyramid. ``encoder``: one that is trained with the rest and stored with it; otherwise CLIP is frozen, and
    whoever has its tokens may bring them. ``precision``: what it computes in, float32 or bfloat16; results are float32.
    ``second``: for a second frozen encoder, whose tokens then follow CLIP's. ``recompute``: whether its large parts are
    computed again in the backward pass, which takes less memory and more time; for norms that do not depend on the batch.
    `forward`: tokens of the tapped blocks [(B, 1 + h w, C)], class token first, last block last, and the grid's size ->
    logits (B, K, 4 h, 4 w) and score map (B, K, h, w) of cosines.
    """

    def __init__(
        self,
        *,
        text_encoder: TextEncoder,
        projection: VisualProjection,
        co_attention: CoAttention | None,
        pyramid: nn.Module,
        neck: Neck,
        head: DecodeHead,
        background: int,
        align_corners: bool = False,
        encoder: ImageEncoder | None = None,
        precision: str = "float32",
        second: SecondProjection | None = None,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = encoder  # first, so that what it shares with the projection is stored under its name
        self.text_encoder = text_encoder
        self.projection = projection
        self.co_attention = co_attention
        self.pyramid, self.neck, self.head = pyramid, neck, head
        self.background, self.align_corners, self.precision = background, align_corners, precision
        self.second, self.recompute = second, recompute

    @property
    def num_classes(self) -> int:
        """K, with the background."""
        return len(self.text_encoder.ids) - self.background + 1

    def encode(self, images: Tensor) -> list[Tensor]:
        """Images (B, 3, H, W) RGB, 0..255 -> what `forward` takes, with gradients, by the network's own encoder."""
        if self.encoder is None:
            raise ValueError("expected a network with an encoder of its own")
        tokens: list[Tensor] = self.encoder(images)
        return tokens

    def forward(self, tokens: Sequence[Tensor], height: int, width: int, texts: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """``texts``: embeddings (T, E) computed before, where they stay the same: in inference, and see `fixed_texts`."""
        logits, scores, _ = self.decode(tokens, height, width, texts)
        return logits, scores

    def decode(self, tokens: Sequence[Tensor], height: int, width: int, texts: Tensor | None = None) -> Decoded:
        """What `forward` gives, and the features of the decode head."""
        tokens, others = (tokens, None) if self.second is None else (tokens[:-1], tokens[-1])
        with arithmetic(self.precision):
            if texts is None:
                texts = self.texts()
            visual = self.projection(tokens[-1])  # (B, 1 + h w, E)
            texts = texts.expand(len(visual), -1, -1)
            if self.co_attention is not None:
                texts, visual = self._through(self.co_attention, texts, visual)
            scores = merge_background(score_map(texts, visual[:, 1:], height, width), self.background)
            maps = [block[:, 1:].transpose(1, 2).unflatten(-1, (height, width)) for block in tokens]
            second = None if self.second is None else self.second(others, height, width)
            logits, features = self.head(self._through(self._levels, maps, scores, second), self.recompute)
        return Decoded(logits.float(), scores.float(), features.float())

    def texts(self) -> Tensor:
        """The embeddings (T, E) of the texts, with gradients where they are trained."""
        with arithmetic(self.precision):
            texts: Tensor = self._through(self.text_encoder)
        return texts

    @torch.no_grad()
    def fixed_texts(self) -> Tensor | None:
        """The embeddings (T, E) for a whole training, or None where it moves them."""
        return self.texts() if self.text_encoder.fixed else None

    def _through(self, part: Callable[..., Any], *inputs: Any) -> Any:
        return recomputed(part, *inputs) if self.recompute else part(*inputs)

    def _levels(self, maps: Sequence[Tensor], scores: Tensor, second: Tensor | None) -> list[Tensor]:
        """What the decode head is given: the pyramid with its score maps, and the second encoder's tokens, after the neck."""
        levels = append_scores(self._through(self.pyramid, maps), scores, self.align_corners)
        if second is not None:
            levels = append_scores(levels, second)
        joined: list[Tensor] = self.neck(levels)
        return joined

    def trainable_state(self) -> dict[str, Tensor]:
        """Buffers, and parameters that are not frozen, each once: what is worth storing."""
        trained = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        other = {name for name, _ in self.named_parameters(remove_duplicate=False)} - trained
        return {key: value for key, value in self.state_dict().items() if key not in other}


def build_weakclip(
    clip: Clip,
    *,
    class_names: Sequence[str],
    synonyms: Sequence[Sequence[str]],
    background_words: Sequence[str],
    sizes: WeakClipSizes,
    precision: str = "float32",
    second_width: int = 0,
    recompute: bool = False,
) -> WeakClip:
    """The repaired variant: chained context decoder, trained pyramid adapter, background as the best of its words.

    ``second_width``: channels of a second encoder's tokens; 0 where there is none. ``recompute``: see `WeakClip`.
    """
    background = background_phrases(background_words)
    phrases = [*background, *(describe(name, others) for name, others in zip(class_names, synonyms, strict=True))]
    num_classes = 1 + len(class_names)
    co_attention = None
    if sizes.co_attention:
        decoder = ContextDecoder(clip.embedding, sizes.decoder_width, sizes.decoder_layers, sizes.decoder_heads)
        co_attention = CoAttention(decoder, clip.embedding)
    pyramid = (PyramidAdapter if sizes.pyramid_adapter else PlainPyramid)(clip.width, sizes.channels)
    model = WeakClip(
        text_encoder=TextEncoder(clip, phrases, sizes.context_length),
        projection=VisualProjection(clip),
        co_attention=co_attention,
        pyramid=pyramid,
        neck=Neck(sizes.channels + num_classes + (sizes.channels if second_width else 0), sizes.channels),
        head=DecodeHead(sizes.channels, num_classes),
        background=len(background),
        precision=precision,
        second=SecondProjection(second_width, sizes.channels) if second_width else None,
        recompute=recompute,
    )
    for part in (model.pyramid, model.neck, model.head):
        part.to(memory_format=torch.channels_last)  # token maps come so; a quarter of the step's time on a CPU
    return model


def load_trainable(model: WeakClip, state: dict[str, Tensor], source: str) -> None:
    """Loads what `WeakClip.trainable_state` gave; the frozen part stays the CLIP it was built from."""
    own = model.state_dict()
    frozen = {key: value for key, value in own.items() if key not in model.trainable_state()}
    load_into(model, {**frozen, **state}, source)
