"""What the report page says, read as HTML; what it does in a browser is in test_browser.py."""

from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path

import pytest

from weakclip.cam.seeds import Threshold
from weakclip.gallery import Layer, Pictures
from weakclip.report.classes import class_section
from weakclip.report.confusions import confusion_section
from weakclip.report.gallery import GalleryRow
from weakclip.report.page import Report, render_page, write_report
from weakclip.report.quality import StageFigures, conditions, deltas
from weakclip.report.script import SCRIPT

SEED = StageFigures(
    stage="seed", block={"miou": 48.21, "split": "train", "n": 1464, "scales": [0.5, 1.0], "flip": True, "crf": False}
)
REFINED = StageFigures(stage="refined", block={"miou": 61.4, "split": "train", "n": 1464, "crf": True, "changed": 4.33})
VAL = StageFigures(stage="val", block={"miou": 58.0, "split": "val", "n": 200, "scales": [1.0], "flip": False, "crf": False})
VOID = {"meta", "img", "input"}


def gallery_row(image_id: str) -> GalleryRow:
    layers = (Layer(column="deeplab", file=f"{image_id}_deeplab.png", classes=(1, 255)),)
    layers += (Layer(column="truth", file=f"{image_id}_truth.png", classes=()),)
    return GalleryRow(
        image_id=image_id,
        group="val",
        rank="worst",
        quality=0.123,
        remark="IoU 12.3 %",
        tags=(1,),
        pictures=Pictures(photo=f"{image_id}_photo.jpg", width=320, height=200, layers=layers),
        figures={"deeplab": "12.3"},
    )


def report(**changes: object) -> Report:
    fields: dict[str, object] = {
        "dataset": "mini",
        "class_names": ("background", "cat", "dog"),
        "stages": (SEED, REFINED, VAL),
        "without_masks": {"pixels changed by refinement": 4.33},
        "class_iou": [{"class": "cat", "seed": 40.0, "val": 55.5}, {"class": "dog", "seed": 30.0}],
        "confusions": [
            {"actual": "cat", "predicted": "dog", "share": 0.08},
            {"actual": "cat", "predicted": "cat", "share": 0.7},
            {"actual": "cat", "predicted": "background", "share": 0.218},
            {"actual": "cat", "predicted": "unsure", "share": 0.002},
            {"actual": "background", "predicted": "cat", "share": 0.3},
        ],
        "gallery": (gallery_row("a"),),
    }
    return Report(**(fields | changes))  # type: ignore[arg-type]


class Page(HTMLParser):
    """Collects the pictures and links of a page and checks that its tags close in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.tags: set[str] = set()
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs
        if tag == "img":
            self.images.append(dict(attrs))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_well_formed_and_needs_nothing_from_the_net() -> None:
    html = render_page(report())
    page = Page(html)
    assert not page.open
    assert "://" not in html
    assert not any(name.startswith("on") for name, _ in page.attributes)
    assert "link" not in page.tags and "@import" not in html
    assert "prefers-color-scheme: dark" in html


def test_the_script_is_the_same_on_every_page() -> None:
    html = render_page(report(dataset="</script>", class_names=("background", "</script>", "`${x}`")))
    assert html.count("<script") == html.count("</script>") == 1
    assert html.split("<script>")[1].split("</script>")[0].strip() == SCRIPT


def test_headlines_have_deltas_and_say_what_was_measured() -> None:
    html = render_page(report())
    assert "48.2</b><small>1,464 train images, scales 0.5 1, mirrored too, no CRF" in html
    assert '61.4<span class="up">+13.2</span>' in html
    assert '58.0<span class="down">-3.4</span>' in html
    assert "200 val images, scale 1, not mirrored, no CRF" in html
    assert "How these figures are counted" in html
    assert [delta for _, _, delta in deltas([SEED, VAL])] == [None, pytest.approx(9.79)]
    assert conditions(REFINED.block) == "1,464 train images, with CRF"
    assert conditions({**REFINED.block, "crf": False, "algorithm": "par"}) == "1,464 train images, with PAR"
    assert conditions({**REFINED.block, "source": "import"}) == "1,464 train images, seeds of another method, with CRF"


def test_what_trainaug_adds_stands_beside_train() -> None:
    stage = StageFigures(stage="seed", block={**SEED.block, "miou_trainaug": 45.67, "n_trainaug": 9118})
    assert "no CRF; 45.7 on 9,118 trainaug images</small>" in render_page(report(stages=(stage,)))


def test_without_true_masks_it_shows_what_is_known_without_them() -> None:
    stages = (StageFigures(stage="refined", block={"changed": 4.33}), StageFigures(stage="val", block={"split": "val", "n": 2}))
    html = render_page(report(stages=stages, class_iou=[{"class": "cat"}], confusions=[]))
    assert "no true masks, so no mIoU" in html
    assert "pixels changed by refinement<b>4.3 %" in html
    assert "IoU by class" not in html and "#classes" not in html
    assert "Confusions" not in html and "#confusions" not in html
    assert not Page(html).open


def test_missing_true_masks_of_val_alone_are_mentioned() -> None:
    assert "no figure for the network itself" in render_page(report(stages=(SEED, REFINED)))


def test_thresholds_that_were_chosen_from_the_maps_are_shown() -> None:
    chosen = {"cat": Threshold(at=0.454, below=0.144, above=0.146), "<b>": Threshold(at=0.2, below=0.1, above=0.1)}
    thresholds = {name: asdict(threshold) for name, threshold in chosen.items()}  # as `train_cam` writes them
    seed = StageFigures(stage="seed", block={"split": "train", "n": 5, "thresholds": thresholds})
    html = render_page(report(stages=(seed,), class_iou=[], confusions=[]))
    assert '<th scope="row">cat</th><td>0.45</td><td>0.31 to 0.60</td>' in html and "&lt;b&gt;</th><td>0.20" in html
    assert not Page(html).open
    assert "Thresholds" not in render_page(report())


def test_bars_are_as_long_as_the_iou_and_sorted() -> None:
    rows = [{"class": "cat", "val": 20.0}, {"class": "dog", "val": 80.0, "seed": 50.0}, {"class": "cow"}]
    html = class_section(rows, ("background", "cat", "dog", "cow"), {"dog"})
    dog, cat, cow = html.split("<tr>")[2:]
    assert '<a href="#gallery" data-class="2" title="see pictures">dog</a>' in dog
    assert '<span class="bar" style="width:80.0%"></span><span class="mark seed" style="left:50.0%"></span>' in dog
    assert "<td>50.0</td><td>80.0</td>" in dog
    assert '<th scope="row">cat</th>' in cat and "width:20.0%" in cat
    assert cow.count("not there") == 2 and "bar" not in cow.replace('"track"', "")


def test_confusions_are_said_in_words() -> None:
    html = confusion_section(report().confusions)
    assert "<li><b>8.0 %</b> of cat is taken for dog</li>" in html
    assert "<li><b>21.8 %</b> of cat is taken for background</li>" in html
    assert "<li><b>30.0 %</b> of the background is taken for cat</li>" in html
    assert "unsure" not in html  # too little of it
    assert "taken for cat</li>" not in html.split("Background")[0]
    assert confusion_section([{"actual": "cat", "predicted": "cat", "share": 1.0}]) == ""


def test_names_of_images_and_classes_are_escaped() -> None:
    evil = '</script><b>"&'
    html = render_page(
        report(
            dataset=evil,
            class_names=("background", evil, "dog"),
            class_iou=[{"class": evil, "val": 1.0}],
            confusions=[{"actual": evil, "predicted": "dog", "share": 0.5}],
            gallery=(gallery_row('ä #?%"<i>'),),
        )
    )
    page = Page(html)
    assert not page.open
    assert evil not in html
    assert page.images[0]["src"] == "images/%C3%A4%20%23%3F%25%22%3Ci%3E_photo.jpg"
    assert page.images[2]["alt"] == f'DeepLab of ä #?%"<i>: {evil}, unsure'


def test_every_picture_has_a_size_and_every_column_one_text() -> None:
    images = Page(render_page(report())).images
    texts = ["photo of a", "", "DeepLab of a: cat, unsure", "", "truth of a: background only"]
    assert [image["alt"] for image in images] == texts  # the photos below the layers are said once
    assert all(image["width"] == "320" and image["height"] == "200" and image["loading"] == "lazy" for image in images)


def test_the_same_figures_give_the_same_bytes(tmp_path: Path) -> None:
    write_report(report(), tmp_path / "a")
    write_report(report(), tmp_path / "b")
    assert (tmp_path / "a/index.html").read_bytes() == (tmp_path / "b/index.html").read_bytes()
