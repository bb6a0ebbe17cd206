"""The schema of `params.yaml`: every number that changes a result, typed and checked; no value is defaulted here.

Numbers called "paper" are those of WeakCLIP (IJCV 2024) or of its released code, for VOC 2012.
Read through `weakclip.params`.
"""

import itertools
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Number = TypeVar("Number", int, float)


def _ascending(values: tuple[Number, ...]) -> tuple[Number, ...]:
    if any(first >= second for first, second in itertools.pairwise(values)):
        raise ValueError("should be in ascending order, each value once")
    return values


def _has_one_place(text: str) -> str:
    if text.count("{}") != 1:
        raise ValueError("should hold {} once, where the class goes")
    return text


def _not_ascending(values: tuple[Number, Number]) -> tuple[Number, Number]:
    if values[0] < values[1]:
        raise ValueError("should be [long side, short side]")
    return values


Count = Annotated[int, Field(ge=1)]
WholeNumber = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(min_length=1)]
Blocks = Annotated[tuple[WholeNumber, ...], Field(strict=False, min_length=1), AfterValidator(_ascending)]
Scales = Annotated[tuple[Positive, ...], Field(strict=False, min_length=1), AfterValidator(_ascending)]
Zoom = Annotated[tuple[Positive, Positive], Field(strict=False), AfterValidator(_ascending)]
Dilations = Annotated[tuple[Count, ...], Field(strict=False, min_length=1), AfterValidator(_ascending)]
Template = Annotated[str, AfterValidator(_has_one_place)]
Box = Annotated[tuple[Count, Count], Field(strict=False), AfterValidator(_not_ascending)]


class Section(BaseModel):
    """Strict: no unknown key, no default, no conversion, except that an int will do where a float is asked."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True, protected_namespaces=()
    )


class DatasetParams(Section):
    name: Literal["mini", "folder", "voc12", "coco14"]
    """Which photos: the generated mini world, any folder of tagged photos, VOC 2012 with the SBD masks, or COCO 2014."""
    on_error: Literal["stop", "skip"]
    """What to do with a photo that cannot be used: stop and name it, or leave it out and list it in skipped.csv."""
    tags_from: Literal["csv", "xml", "json", "npy", "lines", "masks"]
    """Where the image-level tags come from: a table; VOC's or COCO's annotations; the cls_labels.npy of MCTformer, PSA or IRN;
    the numbers after each image in COCO's lists (CLIP-ES). `masks` reads them off the true masks: not weak supervision."""
    val_share: Annotated[float, Field(ge=0, lt=1)]
    """Share of the photos held out for validation where a folder has no split files; 0..1."""
    mini_world: WholeNumber
    """Seed of the mini world's images; another world has other images of the same classes."""
    mini_train: Count
    """Training images of the mini world."""
    mini_val: Count
    """Validation images of the mini world."""


class ClipParams(Section):
    model: Name
    """open_clip's name of the model, or `mini`. Paper: ViT-B-16-quickgelu (ViT-B/16 of OpenAI)."""
    weights: Name
    """open_clip's pretrained tag, a file, or `mini`. Paper: openai."""
    blocks: Blocks
    """Transformer blocks whose tokens are used, counted from 0; the model's last block is among them. Paper: 3, 5, 7, 11."""
    image_size: Annotated[int, Field(ge=16)]
    """Side of a training view and of a sliding window, pixels; a multiple of the patch size. Paper: 512."""
    precision: Literal["float32", "bfloat16"]
    """What CLIP and WeakCLIP compute in. bfloat16 is faster where the hardware has it, and changes results a little."""


class FeaturesParams(Section):
    views: Annotated[int, Field(ge=0, le=64)]
    """Augmented views of each training image in the cache, 0..64; 0 encodes the photos while training, as the paper does."""
    dtype: Literal["float16", "int8"]
    """Number format of cached tokens. int8, with a scale for each channel of a view, takes half the room."""
    scale: Zoom
    """Range of the random zoom of a view, as factors of the photo's fitted size. Paper: 0.5, 2.0."""
    colour: Share
    """Strength of the random colour distortion of a view, 0..1; 0 is none."""
    shard_gigabytes: Positive
    """Size at which a new HDF5 file is begun, 10**9 bytes."""
    second_encoder: Name
    """A second frozen encoder whose tokens the decoder sees beside CLIP's: a vision transformer of timm by name, such as
    vit_small_patch14_dinov2, `mini`, or `none`. Paper: none."""
    second_weights: Name
    """Its weights: `timm` (its pretrained ones), a file, `mini`, or `none` where there is no second encoder."""


class CamParams(Section):
    source: Literal["classifier", "gradcam", "calibrated", "import"]
    """Where the seeds come from: the classifier trained here, CLIP's last block by gradient (CLIP-ES), its calibrated patches
    (ExCEL), or files made by another method. Paper: import (MCTformer)."""
    import_folder: str
    """For `import`: the folder of seeds, under data/raw; empty otherwise."""
    scales: Scales
    """Factors of the photo's fitted size at which CAMs are computed and averaged."""
    flip: bool
    """Whether each scale is also seen mirrored."""
    iterations: WholeNumber
    """Steps of the classifier's training; 0 leaves it CLIP's zero-shot answer."""
    lr: Positive
    """Learning rate of the classifier."""
    batch_size: Count
    """Images in a step of the classifier."""
    weight_decay: NotNegative
    """Weight decay of the classifier (AdamW)."""
    temperature: Positive
    """Divides the similarities before the softmax over class and background words, also that of gradcam; smaller is sharper."""
    background_threshold: Share
    """Class score that a pixel needs to be foreground in the seed, 0..1."""
    unsure_margin: Share
    """Pixels whose score is within this margin of the threshold become 255 in the seed, 0..1."""
    threshold: Literal["fixed", "mixture"]
    """Where the threshold and its margin come from: the two numbers above, or a mixture of Gaussians on the values of each
    class's maps (CoSA)."""
    affinity_blocks: WholeNumber
    """Last blocks of CLIP by whose attention maps are spread; 0 is none. CLIP-ES: 8, ExCEL and WeCLIP: 6, of 12."""
    affinity_box_threshold: Share
    """Share of a map's highest value, 0..1, that regions exceed around which it is spread from. CLIP-ES: 0.4 for VOC, 0.7 for
    COCO; ExCEL: 0.79."""
    calibrated_blocks: WholeNumber
    """For calibrated: last blocks of CLIP beside which the calibrated path runs; 0 takes the tokens as they are. ExCEL: 5 of
    12."""
    template: Template
    """Sentence around a class or a background word, {} in its place. CLIP-ES: a clean origami {}."""
    descriptions: str
    """File under data/raw with sentences about the classes, which enrich their texts (ExCEL): JSON, {class: [sentence, ...]};
    empty for none."""
    description_clusters: Count
    """Clusters to which the sentences of all classes are gathered. ExCEL: 112 for VOC, 224 for COCO."""


class BoundaryCrfParams(Section):
    gaussian_sxy: Positive
    """Width of the smoothness kernel, pixels of the loss maps."""
    gaussian_compat: NotNegative
    """Weight of the smoothness kernel."""
    bilateral_sxy: Positive
    """Width in space of the appearance kernel, pixels of the loss maps. Paper: 80."""
    bilateral_srgb: Positive
    """Width in colour of the appearance kernel, levels of 0..255. Paper: 13."""
    bilateral_compat: NotNegative
    """Weight of the appearance kernel. Paper: 10."""
    iterations: Count
    """Mean-field iterations. Paper: 10."""
    backend: Literal["pydensecrf", "torch"]
    """What computes it: pydensecrf, in processes on CPU cores, or torch, where the network is: no core is waited for."""


class WeakClipParams(Section):
    variant: Literal["repaired", "published"]
    """The method as the paper describes it, or as its released code computes it."""
    iterations: Count
    """Training steps. Paper: 20,000."""
    batch_size: Count
    """Images in a step, over all devices. Paper: 16."""
    warmup: WholeNumber
    """Steps over which the learning rate rises to `lr`. Paper: 1,500."""
    weight_decay: NotNegative
    """Weight decay (AdamW). Paper: 3e-5."""
    context_length: WholeNumber
    """Learnable context tokens before a class name; 0 leaves the names alone. Paper: 8."""
    pyramid_adapter: bool
    """Whether a learnable adapter makes four strides of the frozen tokens; without it they are only resized."""
    co_attention: bool
    """Whether pixels attend to the texts as well as texts to the pixels."""
    decoder_width: Count
    """Channels of the context decoders, a multiple of decoder_heads. Paper: 256."""
    decoder_layers: Count
    """Layers of each context decoder. Paper: 3."""
    decoder_heads: Count
    """Attention heads of the context decoders. Paper: 4."""
    channels: Count
    """Channels of the neck and of the decode head. Paper: 256."""
    score_map_weight: NotNegative
    """Weight of the cross entropy on the score map. Paper: 0.4."""
    score_map_temperature: Positive
    """Divides the score map before that cross entropy. Paper: 0.07."""
    boundary_weight: NotNegative
    """Weight of the boundary loss; 0 leaves the CRF out. Paper: 1."""
    boundary_crf: BoundaryCrfParams
    """Dense CRF of the boundary loss."""
    loss_size: Annotated[int, Field(ge=8)]
    """Side of the maps that the losses are computed on, pixels, for a whole view."""
    token_crop: Annotated[float, Field(gt=0, le=1)]
    """Side of a random window on the token grid of a view, as a share of its side; 1 takes the view whole."""
    held_out_share: Annotated[float, Field(ge=0, lt=1)]
    """Share of the training images kept aside to measure agreement with their seeds, 0..1."""
    validate_every: Count
    """Steps between two measurements of that agreement."""
    checkpoint_every: Count
    """Steps between two checkpoints to resume from."""
    loss_clamp_patch: WholeNumber
    """Side of the patches whose mean limits the loss of a pixel, in seeding and score map loss, pixels of the loss maps; 0 is
    no limit. WeakTr: a quarter of the crop's side."""
    loss_clamp_start: NotNegative
    """Mean loss below which that limit is in force. WeakTr: 1.2."""
    balanced_score_map: bool
    """Whether background and foreground weigh alike in the cross entropy on the score map, as in WeCLIP and ExCEL."""
    affinity_weight: NotNegative
    """Weight of the affinity loss on the features of the decode head; 0 leaves it out. WeCLIP, ExCEL: 0.1."""
    affinity_radius: Count
    """Rows and columns of tokens that a pair of the affinity loss may be apart. WeCLIP, ExCEL: 8."""
    boundary_algorithm: Literal["dense_crf", "par"]
    """What makes the targets of the boundary loss: the dense CRF, or PAR, where the network is. Paper: dense_crf."""
    boundary_par_dilations: Dilations
    """Distances of the neighbours that PAR looks at, pixels of the loss maps. AFA, at full size: 1, 2, 4, 8, 12, 24."""
    boundary_par_iterations: Count
    """Iterations of that PAR. AFA: 10."""
    recompute: bool
    """Whether the repaired variant computes inner values again for the gradient instead of keeping them: less memory, more
    time, the same weights."""
    micro_batches: Count
    """Parts of a batch that the repaired variant computes one after the other, so that the CRFs of the boundary loss compute
    on CPU cores while the network goes on on a GPU; fewer where they do not divide a process's images; one where no CPU core
    computes targets, and in the variant published. The losses are those of the whole batch."""


class MasksParams(Section):
    scales: Scales
    """Factors of base_size at which a photo is seen; scores are averaged. Paper: 0.5, 0.75, 1.0, 1.25, 1.5, 1.75."""
    flip: bool
    """Whether each scale is also seen mirrored. Paper: true."""
    stride: Count
    """Step of the sliding window, pixels, up to clip.image_size. Paper: 341. A longer one makes windows longer, too:
    the fewest of at most that side that cover a view, all of one size, with hardly any overlap. One and a half times
    clip.image_size takes less than half of the time; a little more than it makes windows of half that size, which do harm."""
    tag_filter: bool
    """Whether only background and the classes of the image's tags compete for a pixel."""
    share_absent: bool
    """Whether the present classes share what the filter takes from absent ones; otherwise background has its part of it."""
    base_size: Box
    """Long and short side that a photo is fitted into at scale 1.0, pixels. Paper: 2048, 512."""
    affinity_blocks: WholeNumber
    """Last blocks of the encoder whose attention may refine the prediction of a window, guided by the affinity of the decode
    head's features; 0 leaves that out. WeCLIP, for CAMs: 6 (VOC), 10 (COCO)."""
    affinity_share: Share
    """Share of the refined probabilities in the result, 0..1."""


class CrfParams(Section):
    gaussian_sxy: Positive
    """Width of the smoothness kernel, pixels. Paper: 3."""
    gaussian_compat: NotNegative
    """Weight of the smoothness kernel. Paper: 3."""
    bilateral_sxy: Positive
    """Width in space of the appearance kernel, pixels. Paper: 83 for photos of about 500 pixels."""
    bilateral_srgb: Positive
    """Width in colour of the appearance kernel, levels of 0..255. Paper: 5."""
    bilateral_compat: NotNegative
    """Weight of the appearance kernel. Paper: 3."""
    iterations: Count
    """Mean-field iterations. Paper: 10."""
    tag_limited: bool
    """Whether only background and the classes of the image's tags are labels of the CRF; faster, and no stray classes."""
    gate: Share
    """Confidence below which a pixel of a gated mask is 255, 0..1."""
    algorithm: Literal["dense_crf", "par"]
    """What refines the masks: the dense CRF of all fields above, or PAR, which gives other masks and is made for GPUs."""
    backend: Literal["pydensecrf", "torch"]
    """What computes the dense CRF: pydensecrf, on CPU cores, or torch, on the GPU where there is one; the same masks but for
    a pixel in a million."""
    par_dilations: Dilations
    """Distances of the neighbours that PAR looks at, pixels. AFA: 1, 2, 4, 8, 12, 24."""
    par_iterations: Count
    """Iterations of PAR. WeCLIP, ExCEL: 20."""


class DeepLabParams(Section):
    network: Literal["deeplabv3plus", "deeplabv1_resnet38"]
    """The segmentation network that is retrained. Paper: deeplabv1_resnet38."""
    encoder: Name
    """timm's name of the encoder, or `mini`; for deeplabv1_resnet38 `resnet38`."""
    encoder_weights: Name
    """Weights the encoder starts from: `mini`, `timm` (its ImageNet weights), `none`, or a file; those of resnet38 are a file
    of MXNet (.params) or of torch."""
    masks: Literal["refined", "gated"]
    """Masks to train on: the refined ones, or those with unsure pixels at 255."""
    output_stride: Literal[8, 16]
    """Pixels of the photo to one cell of the encoder's last map. Paper: 8."""
    iterations: Count
    """Training steps. Paper: 40,000 by the released command line's default."""
    batch_size: Count
    """Crops in a step, over all devices. Paper: 16."""
    lr: Positive
    """Learning rate of the decoder at the start of the polynomial schedule. Paper: 0.05."""
    encoder_lr_factor: NotNegative
    """The encoder's learning rate, as a share of lr; 0 freezes it. Paper: 0.1."""
    weight_decay: NotNegative
    """Weight decay. Paper: 5e-4 (SGD)."""
    crop_size: Annotated[int, Field(ge=32)]
    """Side of a training crop, pixels; a multiple of output_stride. Paper: 448."""
    scale: Zoom
    """Range of the random zoom. Paper: 0.5, 1.5."""
    colour: Share
    """Strength of the random colour distortion, 0..1; 0 is none. Paper: 0.1, shifts of up to 10 levels."""
    validate_every: Count
    """Steps between two validations."""
    checkpoint_every: Count
    """Steps between two checkpoints to resume from."""
    layer_decay: Annotated[float, Field(gt=0, le=1)]
    """Factor of the rate from one layer of the encoder (block of a transformer, stage of a convolutional network) to the one
    before it; 1 gives all of them the same. Paper: 1."""
    ema: Annotated[float, Field(ge=0, lt=1)]
    """Share of the old that stays in the moving average of the weights at a step, 0..1; the average is validated and saved.
    0 is no average: the last weights are saved. Paper: 0."""
    loss_clamp_patch: WholeNumber
    """Side of the patches whose mean limits the loss of a pixel, pixels of a crop; 0 is no limit. WeakTr: 120 of 480."""
    loss_clamp_start: NotNegative
    """Mean loss below which that limit is in force. WeakTr: 1.2."""
    balanced_loss: bool
    """Whether background and foreground weigh alike in the cross entropy, as in WeCLIP and ExCEL."""
    precision: Literal["float32", "bfloat16"]
    """What its training computes in. Paper: float32."""


class EvaluateCrfParams(Section):
    gaussian_sxy: Positive
    """Width of the smoothness kernel, pixels. Paper: 1."""
    gaussian_compat: NotNegative
    """Weight of the smoothness kernel. Paper: 3."""
    bilateral_sxy: Positive
    """Width in space of the appearance kernel, pixels. Paper: 112 for photos of about 500 pixels."""
    bilateral_srgb: Positive
    """Width in colour of the appearance kernel, levels of 0..255. Paper: 2."""
    bilateral_compat: NotNegative
    """Weight of the appearance kernel. Paper: 3."""
    iterations: WholeNumber
    """Mean-field iterations; 0 leaves the CRF out. Paper: 10."""


class EvaluateParams(Section):
    scales: Scales
    """Factors of the photo's size at which the DeepLab sees it; scores are averaged. Paper: 0.5, 0.75, 1.0, 1.25, 1.5."""
    flip: bool
    """Whether each scale is also seen mirrored. Paper: true."""
    crf: EvaluateCrfParams
    """Dense CRF on what the DeepLab found, among the classes that it found."""
    gallery_size: WholeNumber
    """Images in the report's gallery."""


class Params(Section):
    """All of `params.yaml`."""

    lr: Positive
    """Peak learning rate of train_weakclip. Paper: 1e-4."""
    seed: WholeNumber
    """All randomness: weights, order, augmentation."""
    dataset: DatasetParams
    """The photos and their tags."""
    clip: ClipParams
    """The frozen CLIP."""
    features: FeaturesParams
    """The cache of CLIP features."""
    cam: CamParams
    """Class activation maps and seeds."""
    weakclip: WeakClipParams
    """The network that turns seeds into pseudo masks, and its training."""
    masks: MasksParams
    """Inference of pseudo masks."""
    crf: CrfParams
    """Dense CRF that refines pseudo masks."""
    deeplab: DeepLabParams
    """Retraining on the refined masks."""
    evaluate: EvaluateParams
    """Inference and figures on the validation split."""
