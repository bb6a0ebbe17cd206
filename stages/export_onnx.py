"""Write the retrained DeepLab as an ONNX file: not a stage of the pipeline, `weakclip export-onnx` runs it."""

from pathlib import Path

from weakclip.deeplab.onnx_export import INPUT, OUTPUT, export_onnx
from weakclip.deeplab.prediction import load_deeplab
from weakclip.errors import WeakClipError
from weakclip.progress import say, size


def main(model: Path, out: Path) -> None:
    """Write the file; it must not be there yet."""
    if out.suffix != ".onnx":
        raise WeakClipError(f"{out} does not end in .onnx", "`--out deeplab.onnx`")
    if out.exists():
        raise WeakClipError(f"{out} is there already", "give a new name, or remove it")
    export_onnx(load_deeplab(model), out)
    say(f"wrote {out}, {size(out.stat().st_size)}")
    say(f"  {INPUT}: float32 (batch, 3, height, width), RGB 0..255; {OUTPUT}: (batch, classes, height, width)")
