"""Write a trained DeepLab or WeakCLIP as an ONNX file: not a stage of the pipeline, `weakclip export-onnx` runs it."""

from pathlib import Path

from weakclip.deeplab.prediction import load_deeplab
from weakclip.errors import WeakClipError
from weakclip.network.trained import NAME, load_weakclip
from weakclip.onnx_export import deeplab as of_deeplab
from weakclip.onnx_export import weakclip as of_weakclip
from weakclip.onnx_export.file import INPUT
from weakclip.progress import say, size


def main(model: Path, out: Path) -> None:
    """Write the file; it must not be there yet."""
    if out.suffix != ".onnx":
        raise WeakClipError(f"{out} does not end in .onnx", "`--out deeplab.onnx`")
    if out.exists():
        raise WeakClipError(f"{out} is there already", "give a new name, or remove it")
    if (model / f"{NAME}.json").is_file():
        trained = load_weakclip(model)
        of_weakclip.export_weakclip(trained, out)
        side = trained.image_size
        shapes = f"(batch, 3, {side}, {side}), RGB 0..255; {of_weakclip.OUTPUT}: (batch, classes, {side}, {side})"
    else:
        of_deeplab.export_deeplab(load_deeplab(model), out)
        shapes = f"(batch, 3, height, width), RGB 0..255; {of_deeplab.OUTPUT}: (batch, classes, height, width)"
    say(f"wrote {out}, {size(out.stat().st_size)}")
    say(f"  {INPUT}: float32 {shapes}")
