"""Reading `params.yaml`: all that is wrong with it at once, by dotted name as typed after `dvc exp run -S`.

Only `stages/` imports this module; library functions take plain arguments.
"""

import difflib
import json
import re
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML

from weakclip.errors import WeakClipError
from weakclip.params_schema import Params, Section

__all__ = ["Params", "load", "names"]

FILE = Path("params.yaml")
PRESETS = Path(__file__).parent / "presets"
# Anchors let a few lines of YAML stand for lists of lists of billions of places.
SHORT = reprlib.Repr()
SHORT.maxlevel, SHORT.maxstring, SHORT.maxother, SHORT.maxlong = 2, 100, 100, 100
SHOWN = 5  # missing names that a hint gives values for


def load(path: Path = FILE) -> Params:
    """Read and check the file; anything wrong is a WeakClipError."""
    _, values = read_yaml(path, YAML(typ="safe", pure=True))
    if not isinstance(values, Mapping):
        raise WeakClipError(f"{path} holds no parameters", "`weakclip preset mini` writes a complete file")
    try:
        params = Params.model_validate(values)
    except ValidationError as error:
        details = error.errors(include_url=False)
        _refuse(path, [_describe(detail) for detail in details], _nearest(details) or _of_preset(details, values))
    _refuse(path, list(_misfits(params)), "")
    return params


def read_yaml(path: Path, yaml: YAML) -> tuple[str, Any]:
    """The text of a file of parameters and what it says. Raises WeakClipError if it is missing or not YAML."""
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise WeakClipError(f"{path} is no file", "move it away; `weakclip preset mini` writes one")
    try:
        text = path.read_text(encoding="utf-8")
        return text, yaml.load(text)
    except FileNotFoundError as error:
        raise WeakClipError(f"{path} is missing", "`weakclip preset mini` writes one") from error
    except (OSError, MemoryError):
        raise
    # A month 13, a number of thousands of digits, a list in itself, tags that do not fit: beside its own errors it raises any.
    except Exception as error:
        problem = f"{path} is not YAML: {' '.join(str(error).split())}"
        raise WeakClipError(problem, "correct it; `weakclip preset mini` writes a complete file") from error


def names(section: type[Section] = Params, prefix: str = "") -> list[str]:
    """Return the dotted name of every value, in the order of the schema."""
    found: list[str] = []
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            found += names(kind, f"{prefix}{name}.")
        else:
            found.append(prefix + name)
    return found


def _refuse(path: Path, problems: Sequence[str], hint: str) -> None:
    if problems:
        note = "(a failed `dvc exp run -S` leaves params.yaml changed)"
        hint = hint or "correct it; a comment beside each value says what it may be"
        raise WeakClipError(f"{path}: " + "; ".join(problems), f"{hint}  {note}")


def _dotted(location: Sequence[int | str]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).removeprefix(".")


def _describe(detail: ErrorDetails) -> str:
    name, value = _dotted(detail["loc"]), SHORT.repr(detail["input"])
    match detail["type"]:
        case "extra_forbidden":
            return f"{name} is not a parameter"
        case "missing":
            return f"{name} is missing"
        case "value_error":
            return f"{name} is {value}: {detail['msg'].removeprefix('Value error, ')}"
        case "model_type":
            return f"{name} is {value}: should be a section"
        case "tuple_type":
            return f"{name} is {value}: should be a list"
        case _:
            wanted = detail["msg"].replace("Input should", "should")
            return f"{name} is {value}: {wanted[:1].lower()}{wanted[1:]}"


def _nearest(details: Sequence[ErrorDetails]) -> str:
    """Return a question about what the first unknown names that resemble a known one were meant to be."""
    known = names()
    sections = sorted({name.rpartition(".")[0] for name in known} - {""})
    found = []
    for detail in details:
        if detail["type"] == "extra_forbidden":
            name = _dotted(detail["loc"])
            prefix = name.rpartition(".")[0]
            near = [other for other in known if other.rpartition(".")[0] == prefix]
            found += (difflib.get_close_matches(name, near + sections, 1) or difflib.get_close_matches(name, known, 1))[:1]
    return f"did you mean {' and '.join(found)}?" if found else ""


def _of_preset(details: Sequence[ErrorDetails], values: Mapping[str, object]) -> str:
    """What the preset of the dataset gives to the first names that the file lacks, as one of an older version does."""
    lacked = [detail["loc"] for detail in details if detail["type"] == "missing"]
    missing = [_dotted(location) for location in lacked if isinstance(location[-1], str)]  # not the numbers of a list
    dataset = values.get("dataset")
    preset = PRESETS / f"{dataset.get('name')}.yaml" if isinstance(dataset, Mapping) else PRESETS
    if not missing or not preset.is_file():
        return ""
    content = YAML(typ="safe", pure=True).load(preset.read_text(encoding="utf-8"))
    found = []
    for name in missing[:SHOWN]:
        value: Any = content
        for part in name.split("."):
            value = value[part]
        if not isinstance(value, Mapping):
            found.append(f"{name}: {json.dumps(value)}")
    return (
        f"is it of an older version? the preset {preset.stem} has {', '.join(found)}; `weakclip upgrade` adds them"
        if found
        else ""
    )


def _misfits(params: Params) -> Iterator[str]:
    """Yield what is wrong between values that are each right on their own."""
    clip, cam, weakclip, deeplab = params.clip, params.cam, params.weakclip, params.deeplab
    if (clip.model == "mini") != (clip.weights == "mini"):
        yield f"clip.weights is {clip.weights!r}, clip.model is {clip.model!r}: mini goes with mini only"
    second, its_weights = params.features.second_encoder, params.features.second_weights
    if second in ("none", "mini") and its_weights != second:
        yield f"features.second_weights is {its_weights!r}: that of features.second_encoder {second} is {second}"
    elif second not in ("none", "mini") and its_weights in ("none", "mini"):
        yield f"features.second_weights is {its_weights!r}: that of {second} is timm or a file"
    if second != "none" and weakclip.variant == "published":
        yield f"features.second_encoder is {second!r}: weakclip.variant published has none"
    patch = _patch_size(clip.model)
    if patch and clip.image_size % patch:
        yield f"clip.image_size is {clip.image_size}: should be a multiple of the patch size of {clip.model}, {patch}"
    if cam.source == "import" and not cam.import_folder.startswith("data/raw/"):
        yield f"cam.import_folder is {cam.import_folder!r}: should be a folder under data/raw when cam.source is import"
    if cam.descriptions and not cam.descriptions.startswith("data/raw/"):
        yield f"cam.descriptions is {cam.descriptions!r}: should be a file under data/raw, whose changes DVC sees"
    if params.masks.affinity_blocks and weakclip.variant == "published":
        yield "masks.affinity_blocks refines by the attention of a frozen encoder: that of weakclip.variant published moves"
    if not cam.unsure_margin <= cam.background_threshold <= 1 - cam.unsure_margin:
        yield f"cam.unsure_margin is {cam.unsure_margin}: cam.background_threshold plus or minus it leaves 0..1"
    if weakclip.warmup >= weakclip.iterations:
        yield f"weakclip.warmup is {weakclip.warmup}: should be less than weakclip.iterations, {weakclip.iterations}"
    if weakclip.decoder_width % weakclip.decoder_heads:
        yield f"weakclip.decoder_width is {weakclip.decoder_width}: should be a multiple of weakclip.decoder_heads"
    if (deeplab.encoder == "mini") != (deeplab.encoder_weights == "mini") and deeplab.encoder_weights != "none":
        yield f"deeplab.encoder_weights is {deeplab.encoder_weights!r}: does not fit deeplab.encoder {deeplab.encoder!r}"
    if (deeplab.encoder == "resnet38") != (deeplab.network == "deeplabv1_resnet38"):
        yield f"deeplab.encoder is {deeplab.encoder!r}: resnet38 goes with deeplab.network deeplabv1_resnet38 only"
    elif deeplab.encoder == "resnet38" and deeplab.output_stride != 8:
        yield f"deeplab.output_stride is {deeplab.output_stride}: that of resnet38 is 8"
    elif deeplab.encoder == "resnet38" and deeplab.encoder_weights == "timm":
        yield "deeplab.encoder_weights is 'timm': timm has no resnet38, give a file or none"
    if deeplab.encoder == "resnet38" and deeplab.layer_decay != 1:
        yield f"deeplab.layer_decay is {deeplab.layer_decay}: that of resnet38 is 1.0, all its layers learn at one rate"
    if deeplab.crop_size % deeplab.output_stride:
        yield f"deeplab.crop_size is {deeplab.crop_size}: should be a multiple of deeplab.output_stride"


def _patch_size(model: str) -> int | None:
    """Return the patch size that open_clip's name of a vision transformer states, such as ViT-B-16; None if it states none."""
    if model == "mini":
        return 8
    match = re.match(r"(?:EVA\d*-)?ViT-[A-Za-z]+-(\d+)", model)
    return int(match[1]) if match else None
