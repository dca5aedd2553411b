"""The report as a browser shows it: headless Chromium, no network, both themes, on paper."""

import pytest
from browser import CONTRASTS
from evaluation_data import random_dataset, random_results
from PIL import Image
from report_data import with_extras

from finemask.evaluation.evaluator import CocoEvaluator
from finemask.evaluation.ground_truth import ground_truth_from_dict
from finemask.reports.evaluation_report import ReportContext, write_report


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    dataset = random_dataset(3, images=4, categories=4, objects=6)
    for image in dataset["images"]:
        Image.new("RGB", (image["width"], image["height"]), (90, 120, 160)).save(folder / image["file_name"])
    evaluator = CocoEvaluator(ground_truth_from_dict(dataset))
    evaluator.add_results(random_results(dataset, 4))
    curves = [{"epoch": 0, "train/loss": 2.0}, {"epoch": 1, "train/loss": 1.0}]
    context = ReportContext(images_dir=folder, training_curves=curves)
    return write_report(folder / "report", evaluator, evaluator.results, with_extras(evaluator.compute()), context)


@pytest.fixture
def page(tab, report):
    tab.prefer("light")
    tab.open(report)
    tab.value("localStorage.clear()")
    tab.open(report)
    return tab


def test_nothing_is_fetched_and_nothing_complained_of(page, report):
    assert report.resolve().as_uri() in page.requests
    assert all(address.startswith(("file:", "data:")) for address in page.requests)
    assert page.complaints == []


def test_every_picture_loads(page):
    pictures = page.value("[...document.querySelectorAll('.example img')].map(image => image.naturalWidth)")
    assert len(pictures) > 10
    assert min(pictures) > 0


def test_the_page_fits_its_window(page, report):
    for width in (1280, 400):
        page.open(report, width=width)
        assert page.value("document.documentElement.scrollWidth") <= width


def test_the_table_sorts_by_mouse_and_by_keyboard(page):
    column = "[...document.querySelectorAll('table.sortable tbody tr')].map(row => +row.cells[{}].dataset.value)"
    page.value("document.querySelectorAll('table.sortable th button')[1].click()")
    values = page.value(column.format(1))
    assert values == sorted(values, reverse=True)
    assert len(set(values)) > 1
    page.value("document.querySelectorAll('table.sortable th button')[1].focus()")
    page.press("Enter", text="\r")
    assert page.value(column.format(1)) == sorted(values)
    assert (
        page.value("document.querySelectorAll('table.sortable thead th')[1].getAttribute('aria-sort')") == "ascending"
    )
    page.value("document.querySelector('table.sortable th button').click()")
    names = page.value("[...document.querySelectorAll('table.sortable tbody th')].map(cell => cell.textContent)")
    assert names == sorted(names)


A4_PX = 703  # 210 mm less two margins of 12 mm, at 96 px to the inch
BACKGROUND = "getComputedStyle(document.body).backgroundColor"


def test_the_theme_follows_the_system_until_one_is_chosen(page, report):
    light = page.value(BACKGROUND)
    page.prefer("dark")
    dark = page.value(BACKGROUND)
    assert dark != light
    page.value("document.getElementById('theme').click()")
    assert page.value(BACKGROUND) == light
    page.open(report)  # and is remembered
    assert page.value(BACKGROUND) == light
    assert page.value("document.getElementById('theme').textContent") == "Dark"
    page.prefer("light")
    page.value("document.getElementById('theme').click()")
    assert page.value(BACKGROUND) == dark


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_can_be_read_in_both_themes(page, theme):
    """WCAG AA: a contrast of 4.5 for every text of the page."""
    page.prefer(theme)
    assert page.value(CONTRASTS) == []


def test_a_picture_opens_large_and_escape_closes_it(page):
    page.value("document.querySelector('.example .view').focus()")
    page.press("Enter", text="\r")
    assert page.value("document.getElementById('large').open")
    shown = "document.getElementById('large-image').src"
    sides = page.value("[...document.querySelector('.example').querySelectorAll('img')].map(image => image.src)")
    assert page.value(shown) == sides[0]
    page.press(" ", text=" ")
    assert page.value(shown) == sides[1]
    page.press("ArrowRight")
    assert page.value(shown) == page.value("document.querySelectorAll('.example')[1].querySelectorAll('img')[1].src")
    page.press("Escape")
    assert not page.value("document.getElementById('large').open")
    assert page.value("document.activeElement.className") == "view"


def test_paper_is_white_whatever_the_screen_is(page):
    page.prefer("dark")
    page.value("document.getElementById('theme').click()")
    page.value("document.getElementById('theme').click()")  # chosen now, and dark
    page.call("Emulation.setEmulatedMedia", media="print")
    try:
        assert page.value(BACKGROUND) == "rgb(255, 255, 255)"
        assert page.value("getComputedStyle(document.querySelector('nav')).display") == "none"
        page.call("Emulation.setDeviceMetricsOverride", width=A4_PX, height=1000, deviceScaleFactor=1, mobile=False)
        cut = "box => !box.clientWidth || box.scrollWidth > box.clientWidth + 1"
        assert page.value(f"[...document.querySelectorAll('.scroll')].filter({cut}).length") == 0
        document = page.pdf()
    finally:
        page.call("Emulation.setEmulatedMedia", media="")
    assert document.startswith(b"%PDF-")
    assert 3 <= document.count(b"/Type /Page\n") <= 30
