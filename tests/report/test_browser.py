"""The report page in a browser: what is shown, filtered, sorted and faded, by mouse and by keyboard, without an error."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from weakclip.datasets.index import Record
from weakclip.gallery import Maps, write_pictures
from weakclip.masks import write_mask
from weakclip.report.gallery import GalleryRow
from weakclip.report.page import Report, write_report
from weakclip.report.quality import StageFigures

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

NAMES = ("background", "</script><script>console.error('escaped from its place')</script>", "dog & <b>cat</b>")
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}


def browser_path() -> str | None:
    """A Chromium of the system, or the one that playwright has installed."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    return None


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with playwright.sync_playwright() as driver:
        path = browser_path() or driver.chromium.executable_path
        if not Path(path).exists():
            pytest.skip("there is no Chromium: install one, or run `playwright install chromium`")
        # Tests may run as root, whose processes Chromium's sandbox refuses.
        opened = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A report of three validation and two training images, with names that would break a careless page."""
    folder = tmp_path_factory.mktemp("report")
    images = (("v0", "val", "worst", 0.2, (1,)), ("v1", "val", "median", 0.5, (2,)), ("v2 #?%\"'", "val", "best", 0.9, (1, 2)))
    images += (("t0", "train", "worst", 0.3, (2,)), ("t1", "train", "best", 0.8, (1,)))
    rows = []
    for image_id, group, rank, quality, tags in images:
        photo, mask = folder / "photo.png", folder / "mask.png"
        Image.new("RGB", (64, 48), (90, 120, 60)).save(photo)
        write_mask(mask, np.repeat([[0, tags[0]]], 24, axis=1).repeat(48, axis=0).astype(np.uint8)[:, :64])
        record = Record(image_id=image_id, photo=str(photo), height=48, width=64, split="val", tags=tags, mask=None)
        maps = Maps(classes=tags, values=np.ones((len(tags), 2, 2), np.float32)) if group == "train" else None
        pictures = write_pictures(record, {"deeplab": mask, "truth": mask}, maps, folder / "images", 320)
        rows.append(
            GalleryRow(
                image_id=image_id,
                group=group,
                rank=rank,
                quality=quality,
                remark=f"IoU {100 * quality:.1f} %",
                tags=tags,
                pictures=pictures,
                figures={"deeplab": f"{100 * quality:.1f}"},
            )
        )
    stages = tuple(
        StageFigures(stage=stage, block={"miou": miou, "split": split, "n": 3})
        for stage, miou, split in (("seed", 40.0, "train"), ("refined", 60.0, "train"), ("val", 55.0, "val"))
    )
    page = Report(
        dataset=NAMES[1],
        class_names=NAMES,
        stages=stages,
        without_masks={"pixels changed by refinement": 4.3},
        class_iou=[{"class": name, "seed": 40.0, "refined": 60.0, "val": 55.0} for name in NAMES],
        confusions=[{"actual": NAMES[1], "predicted": NAMES[2], "share": 0.08}],
        gallery=tuple(rows),
    )
    write_report(page, folder)
    return (folder / "index.html").as_uri()


class Tab:
    """A tab with the report in it, which remembers what went wrong and what was asked of the network."""

    def __init__(self, browser: object, url: str, **options: object) -> None:
        self.page = browser.new_page(**options)  # type: ignore[attr-defined]
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.errors.append(message.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("requestfailed", lambda request: self.errors.append(request.url))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(url)

    def shown(self) -> list[str]:
        """The images that can be seen, in their order."""
        rows = self.page.locator(".row:visible")
        return [row.get_attribute("data-name") for row in rows.all()]

    def value(self, script: str) -> object:
        return self.page.evaluate(script)


@pytest.fixture
def tab(browser: object, report: str) -> Iterator[Tab]:
    opened = Tab(browser, report, viewport=DESK)
    yield opened
    opened.page.close()
    assert opened.errors == []
    assert {url.partition(":")[0] for url in opened.requests} == {"file"}


def test_it_renders_with_all_pictures_and_names_as_they_are(tab: Tab) -> None:
    assert tab.page.title() == f"WeakCLIP on {NAMES[1]}"
    assert tab.shown() == ["v0", "v1", "v2 #?%\"'", "t0", "t1"]
    tab.value("() => document.querySelectorAll('img').forEach((image) => { image.loading = 'eager'; })")
    tab.page.wait_for_function("() => [...document.images].every((image) => image.complete)")
    assert tab.value("() => [...document.images].filter((image) => !image.naturalWidth).length") == 0
    assert [option.inner_text() for option in tab.page.locator("select[name=class] option").all()] == ["all", *NAMES[1:]]
    assert tab.page.locator("output[name=shown]").inner_text() == "5 of 5 images"


def test_it_filters_by_class_side_and_part(tab: Tab) -> None:
    tab.page.select_option("select[name=class]", "1")
    assert tab.shown() == ["v0", "v2 #?%\"'", "t1"]
    assert tab.page.locator("output[name=shown]").inner_text() == "3 of 5 images"
    tab.page.select_option("select[name=group]", "train")
    assert tab.shown() == ["t1"]
    assert not tab.page.locator(".group.val").is_visible()
    tab.page.select_option("select[name=rank]", "worst")
    assert tab.shown() == []
    tab.page.get_by_role("button", name="Show all").click()
    assert tab.page.locator("output[name=shown]").inner_text() == "5 of 5 images"


def test_it_sorts_each_side_by_iou_and_name(tab: Tab) -> None:
    tab.page.select_option("select[name=order]", "best")
    assert tab.shown() == ["v2 #?%\"'", "v1", "v0", "t1", "t0"]
    tab.page.select_option("select[name=order]", "name")
    assert tab.shown() == ["v0", "v1", "v2 #?%\"'", "t0", "t1"]


def test_a_class_of_the_table_leads_to_its_pictures(tab: Tab) -> None:
    tab.page.select_option("select[name=group]", "train")
    tab.page.locator("a[data-class='2']").click()
    tab.page.wait_for_function("() => document.querySelector('output[name=shown]').value === '3 of 5 images'")
    assert tab.shown() == ["v1", "v2 #?%\"'", "t0"]


def test_the_keyboard_is_enough(tab: Tab) -> None:
    for _ in range(30):
        tab.page.keyboard.press("Tab")
        if tab.value("() => document.activeElement.name") == "class":
            break
    tab.page.keyboard.press("ArrowDown")
    assert tab.shown() == ["v0", "v2 #?%\"'", "t1"]
    for _ in range(4):
        tab.page.keyboard.press("Tab")
    assert tab.value("() => document.activeElement.name") == "opacity"
    tab.page.keyboard.press("End")
    assert tab.value("() => getComputedStyle(document.querySelector('.layer')).opacity") == "1"
    tab.page.keyboard.press("Home")
    assert tab.value("() => getComputedStyle(document.querySelector('.layer')).opacity") == "0"


@pytest.mark.parametrize("viewport", [PHONE, DESK], ids=["phone", "desk"])
def test_nothing_is_wider_than_the_screen(browser: object, report: str, viewport: dict[str, int]) -> None:
    tab = Tab(browser, report, viewport=viewport)
    assert tab.value("() => document.documentElement.scrollWidth") == viewport["width"]
    tab.page.close()


def test_it_follows_the_reader_into_the_dark(browser: object, report: str) -> None:
    brightness = {}
    for scheme in ("light", "dark"):
        tab = Tab(browser, report, color_scheme=scheme)
        colour = str(tab.value("() => getComputedStyle(document.body).backgroundColor"))
        brightness[scheme] = int(colour.removeprefix("rgb(").split(",")[0])
        tab.page.close()
    assert brightness["light"] > 200 > 60 > brightness["dark"]


def test_without_scripts_it_shows_everything_but_the_controls(browser: object, report: str) -> None:
    tab = Tab(browser, report, java_script_enabled=False)
    assert len(tab.shown()) == 5
    assert not tab.page.locator("#controls").is_visible()
    tab.page.close()
