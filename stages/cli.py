"""The program `weakclip`: what is done beside the pipeline, each command once in a while."""

import difflib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

import weakclip
from stages import _cli
from weakclip.disk_space import write_whole
from weakclip.errors import WeakClipError
from weakclip.progress import say

PRESETS = Path(weakclip.__file__).parent / "presets"
BEST = "best"
REPAIRED = "repaired"  # the recipe of the presets that lie in no folder of their own
PARAMS = Path("params.yaml")
PHOTOS = Path("data/raw/photos")


def presets_from(incomplete: str) -> list[str]:
    """For the shell: the presets that begin so."""
    return [name for name in preset_names(PRESETS) if name.startswith(incomplete)]


def formats_from(incomplete: str) -> list[str]:
    """For the shell: the formats of `export` that begin so."""
    from stages.export import FORMATS  # here, so that the other commands start without numpy

    return [name for name in FORMATS if name.startswith(incomplete)]


app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)
pretrain = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.add_typer(pretrain, name="pretrain-mini", help="Train the small networks that come with the project.")


def show_version(wanted: bool) -> None:
    """Print the version and leave, where it is wanted."""
    if wanted:
        say(f"weakclip {version('weakclip')}")
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    """WeakCLIP beside its pipeline; the pipeline itself runs with `dvc repro`."""


@app.command()
def preset(
    name: Annotated[str, typer.Argument(help="mini, folder, folder-openai, voc12 or coco14", autocompletion=presets_from)],
    recipe: Annotated[
        str,
        typer.Option(
            help="repaired; best (mini, voc12, coco14): with techniques beyond the paper; or published (voc12, coco14): as the "
            "released code of the paper is configured"
        ),
    ] = REPAIRED,
    root: Annotated[Path | None, typer.Option(help="folder of the photos, to be linked as data/raw/photos")] = None,
) -> None:
    """Write a complete, commented params.yaml; a former one that differs is kept as params.yaml.bak.

    Reads:  the preset that comes with the project.
    Writes: params.yaml, params.yaml.bak; with --root the link data/raw/photos.
    Costs:  nothing.
    """
    text = read_preset(name, recipe)
    if root is not None:
        link_photos(root)
    if PARAMS.exists() and PARAMS.read_text(encoding="utf-8", errors="replace") != text:
        backup = PARAMS.with_name(PARAMS.name + ".bak")
        PARAMS.replace(backup)
        say(f"the former {PARAMS} is now {backup}")
    write_whole(PARAMS, text.encode())  # half a file would take the place of the former one at the next attempt
    if recipe == REPAIRED:
        say(f"{PARAMS} is the preset {name}; `dvc repro` runs it")
    elif recipe == BEST:
        say(f"{PARAMS} is the preset {name} of the recipe {recipe}; `dvc repro` runs it")
        say("docs/method.md tells what its techniques are, cost and bring")
    else:
        say(f"{PARAMS} is the preset {name} of the recipe {recipe}; `dvc repro` runs it, once the seeds and the weights that")
        say("it names are in data/raw: docs/reproduce.md tells which, and what was never run")
    if name == "folder":
        say("it rehearses with the small networks of this project, which have never seen a photo: expect poor masks;")
        say("for real ones, `weakclip preset folder-openai` (downloads CLIP; meant for a GPU)")


@app.command()
def upgrade() -> None:
    """Add to a params.yaml of an older version what it lacks, so that it means what it meant; it is kept as params.yaml.bak.

    Reads:  params.yaml, the preset that comes with the project.
    Writes: params.yaml, params.yaml.bak.
    Costs:  nothing.
    """
    from stages import upgrade as command  # here, so that the other commands start without it

    command.upgrade(PARAMS, PRESETS)


@app.command()
def init(
    folder: Annotated[
        Path, typer.Argument(help="folder of photos: in subfolders named by class, or with a CSV or JSON of tags")
    ],
    name: Annotated[
        str, typer.Option("--preset", help="folder: a rehearsal with small networks; folder-openai: CLIP, for a GPU")
    ] = "folder",
    tags: Annotated[Path | None, typer.Option(help="the CSV or JSON of tags; a folder: its subfolders are the classes")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace tags.csv, classes.txt and splits")] = False,
) -> None:
    """Describe a folder of photos: write tags.csv, classes.txt and splits into it, and params.yaml here, for `dvc repro`.

    Reads:  names and headers of the photos; the CSV or JSON of tags.
    Writes: tags.csv, classes.txt, splits/ in the folder; here the link data/raw/photos, and params.yaml unless it fits already.
    Costs:  an open file a photo; no photo is decoded.
    """
    from stages import init as command  # here, so that the other commands start without numpy

    files = command.plan(folder, name, tags, overwrite=overwrite)
    if command.fits(PARAMS, name):
        link_photos(folder)
        say(f"{PARAMS} is for a folder of photos already and stays as it is; `weakclip preset {name}` writes it anew")
    else:
        preset(name, REPAIRED, folder)
    command.write(files)


@app.command()
def doctor() -> None:
    """Check packages, device, DVC, parameters, photos and weights; forecast disk and time of each later stage.

    Reads:  params.yaml, DVC's settings, data/raw; data/dataset and data/features where they are there.
    Writes: nothing.
    Costs:  seconds; it asks the network whether weights can be fetched, where some have to be.
    """
    from stages import doctor as command  # here, so that the other commands start faster

    command.main()


@app.command()
def predict(
    photos: Annotated[list[str], typer.Argument(help="photos, folders of photos, or patterns such as 'shots/*.jpg'")],
    out: Annotated[Path, typer.Option(help="new folder for masks and overlays")],
    tags: Annotated[
        list[str] | None,
        typer.Option(metavar="<str>", help="what the photos show, such as cat,dog: nothing else is looked for"),
    ] = None,
    model: Annotated[Path, typer.Option(help="folder of a trained DeepLab or WeakCLIP")] = Path("data/deeplab"),
) -> None:
    """Write masks and overlays of photos from the trained DeepLab, or straight from the WeakCLIP (--model data/weakclip).

    Reads:  the photos, the model's folder, params.yaml for scales and CRF.
    Writes: --out: masks (palette PNG) and overlays (JPEG).
    Costs:  a forward pass for each photo, scale, mirror and (WeakCLIP) window; the CRF where params.yaml asks for it.
    """
    from stages import predict as command  # here, so that the other commands start without torch

    command.main(photos, out, ",".join(tags or ()), model)


@app.command("import-checkpoint")
def import_checkpoint(
    file: Annotated[Path, typer.Argument(help="a .pth file of the released code")],
    classes: Annotated[str, typer.Option(help="voc12, coco14, or a file with a class a line")],
    out: Annotated[Path, typer.Option(help="folder for the weights and their card")],
) -> None:
    """Bring a trained WeakCLIP or DeepLabV1 of the released code into this project's format, for generate_masks or evaluate.

    Reads:  the .pth file; nothing in it is executed.
    Writes: --out: weights (safetensors) and their card (JSON).
    Costs:  reading and writing the file.
    """
    from stages import import_checkpoint as command  # here, so that the other commands start without torch

    command.main(file, classes, out)


@app.command("upper-bound")
def upper_bound() -> None:
    """Train the DeepLab of params.yaml on the true masks: what the pipeline's masks could reach at best.

    Reads:  params.yaml, data/dataset with its photos and true masks.
    Writes: data/upper_bound.
    Costs:  as much as retrain_deeplab; it goes on where it was interrupted.
    """
    from stages import upper_bound as command  # here, so that the other commands start without torch

    command.main()


@app.command()
def score(
    masks: Annotated[Path, typer.Option(help="folder of the masks to score, <id>.png")],
    truth: Annotated[Path, typer.Option(help="folder of the true masks, of the same names")],
    classes: Annotated[str, typer.Option(help="voc12, coco14, coco91 or a classes.txt")],
    images: Annotated[
        Path | None, typer.Option("--list", help="score these images, an id a line; by default all in both")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file for the figures")] = None,
) -> None:
    """Print IoU, false positives and false negatives of the masks of a folder against those of another.

    Reads:  both folders.
    Writes: nothing, or the JSON file of --out.
    Costs:  decoding two PNGs an image, on all cores.
    """
    from stages import score as command  # here, so that the other commands start without numpy

    command.main(masks, truth, classes, images, out)


@app.command("import-masks")
def import_masks(
    source: Annotated[Path, typer.Argument(help="folder of the released code: masks (<id>.png) or prob_npy (<id>.npy)")],
    classes: Annotated[str, typer.Option(help="voc12, coco14 (numbered by category id there) or a classes.txt")],
    out: Annotated[Path, typer.Option(help="new folder for the masks")],
) -> None:
    """Turn masks or class scores of the released WeakCLIP into masks of this project, such as seeds to train on.

    Reads:  the folder; nothing in .npy files is executed.
    Writes: --out: palette PNGs.
    Costs:  decoding and encoding a PNG an image.
    """
    from stages import exchange  # here, so that the other commands start without numpy

    exchange.take_over(source, classes, out)


@app.command("export-masks")
def export_masks(
    out: Annotated[Path, typer.Option(help="new folder for lists, tags, pred_png and prob_npy")],
    dataset: Annotated[Path, typer.Option(help="the dataset index")] = Path("data/dataset"),
    masks: Annotated[Path, typer.Option(help="masks of the training images")] = Path("data/masks/refined"),
    scores: Annotated[Path, typer.Option(help="class scores of the training images")] = Path("data/masks/scores"),
) -> None:
    """Write masks, class scores, lists and tags as the released WeakCLIP code reads them. For other tools: export.

    Reads:  data/dataset, masks and class scores.
    Writes: --out: lists, tags, pred_png, prob_npy.
    Costs:  disk: class scores take four bytes a pixel for each class that is anywhere the best.
    """
    from stages import exchange  # here, so that the other commands start without numpy

    exchange.hand_over(out, dataset, masks, scores)


@app.command()
def export(
    format_name: Annotated[
        str,
        typer.Option("--format", help="coco, coco-polygons, yolo, voc, cvat or label-studio", autocompletion=formats_from),
    ],
    out: Annotated[Path, typer.Option(help="new .json (coco), .zip (cvat), or folder (others)")],
    masks: Annotated[
        Path | None,
        typer.Option(help="folder of masks, <image id>.png; by default the refined ones, or those beside --dataset"),
    ] = None,
    dataset: Annotated[Path, typer.Option(help="the dataset index, or what `weakclip predict` wrote")] = Path("data/dataset"),
    confidence: Annotated[
        float | None, typer.Option(help="leave out pixels whose class is less probable after the CRF, which runs again for it")
    ] = None,
) -> None:
    """Write masks for other tools: COCO JSON, YOLO, VOC, CVAT, Label Studio. For the released WeakCLIP code: export-masks.

    Reads:  data/dataset, the masks; with --confidence photos and data/masks/scores as well.
    Writes: --out.
    Costs:  decoding a PNG an image; with --confidence the CRF again, as in refine_masks.
    """
    from stages import export as command  # here, so that the other commands start without numpy

    command.main(format_name, out, masks, dataset, confidence)


@app.command("export-onnx")
def export_onnx(
    out: Annotated[Path, typer.Option(help="new .onnx file")],
    model: Annotated[Path, typer.Option(help="folder of a trained DeepLab or WeakCLIP")] = Path("data/deeplab"),
) -> None:
    """Write the trained DeepLab as ONNX (photos in, class probabilities out) or the WeakCLIP (windows in, logits out).

    Reads:  the model's folder.
    Writes: --out, as large as the weights. For the WeakCLIP, CLIP's image encoder among them.
    Costs:  tracing the network once, half a minute for a small one, and memory for its weights twice.
    Needs:  `pip install -e .[onnx]`.
    """
    from stages import export_onnx as command  # here, so that the other commands start without torch

    command.main(model, out)


@pretrain.command("clip")
def pretrain_clip(
    iterations: Annotated[int | None, typer.Option(min=1, help="training steps; the recipe's own by default")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    out: Annotated[Path, typer.Option(help="folder for the weights and their card")] = Path("weakclip/weights"),
) -> None:
    """Train the mini CLIP on generated images and their captions, with the mini encoder of the same folder as its teacher.

    Reads:  weights of the mini encoder in --out.
    Writes: --out: weights and card.
    Costs:  13 minutes of one core of a 2.5 GHz Xeon; it goes on where it was interrupted.
    """
    from weakclip.pretrain import clip  # here, so that the other commands start without torch

    clip.main(seed=seed, iterations=iterations, out=out)


@pretrain.command("encoder")
def pretrain_encoder(
    iterations: Annotated[int | None, typer.Option(min=1, help="training steps; the recipe's own by default")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    out: Annotated[Path, typer.Option(help="folder for the weights and their card")] = Path("weakclip/weights"),
) -> None:
    """Train the mini segmentation encoder on generated images and their tags.

    Reads:  nothing: images are drawn.
    Writes: --out: weights and card.
    Costs:  16 minutes of one core of a 2.5 GHz Xeon; it goes on where it was interrupted.
    """
    from weakclip.pretrain import encoder  # here, so that the other commands start without torch

    encoder.main(seed=seed, iterations=iterations, out=out)


def read_preset(name: str, recipe: str = REPAIRED) -> str:
    """Return the text of a preset; those of another recipe than `repaired` lie in a folder of its name."""
    of_recipe = {REPAIRED: preset_names(PRESETS)}
    of_recipe |= {folder.name: preset_names(folder) for folder in sorted(PRESETS.iterdir()) if folder.is_dir()}
    if name not in of_recipe[REPAIRED]:
        raise WeakClipError(f"{name!r} is not a preset", guesses(name, of_recipe[REPAIRED]))
    if recipe not in of_recipe:
        raise WeakClipError(f"{recipe!r} is not a recipe", guesses(recipe, list(of_recipe)))
    if name not in of_recipe[recipe]:
        problem = f"the preset {name} has no recipe {recipe}"
        raise WeakClipError(problem, f"leave --recipe out; {recipe} is for {' and '.join(of_recipe[recipe])}")
    folder = PRESETS if recipe == REPAIRED else PRESETS / recipe
    return (folder / f"{name}.yaml").read_text(encoding="utf-8")


def preset_names(folder: Path) -> list[str]:
    """The presets of a folder, sorted."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def guesses(word: str, known: Sequence[str]) -> str:
    """What the word may have been meant to be, and all that there is."""
    near = difflib.get_close_matches(word, known, 1)
    question = f"did you mean {near[0]}? " if near else ""
    return f"{question}there are: {', '.join(known)}"


def link_photos(root: Path) -> None:
    """Make data/raw/photos a link to the folder, in place of an older link.

    DVC follows a link that is itself a dependency, though none inside a folder, and Git carries it to experiments that run
    elsewhere (`dvc exp run --queue`, `--temp`); hence one absolute link.
    """
    folder = root.expanduser().resolve()
    if not folder.is_dir():
        raise WeakClipError(f"{root} is not a folder", "give the folder of the photos: `weakclip preset NAME --root DIR`")
    if Path.cwd().resolve().is_relative_to(folder):
        raise WeakClipError(f"{root} holds this project", "give a folder that holds photos only, or move them to one")
    if PHOTOS.exists() and not PHOTOS.is_symlink():
        raise WeakClipError(f"{PHOTOS} is a folder of its own", "move what is in it to another place, remove it, and try again")
    PHOTOS.parent.mkdir(parents=True, exist_ok=True)
    new = PHOTOS.with_name(f".{PHOTOS.name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(folder)
    new.replace(PHOTOS)
    say(f"{PHOTOS} is a link to {folder}")


def main() -> None:
    """Run the program."""
    _cli.run_app(app)


if __name__ == "__main__":
    main()
