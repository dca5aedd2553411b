"""Statistics, suspects, comparison and learning curve as a browser shows them: they are pages of one kit."""

import json
from pathlib import Path

import numpy as np
import pytest
from browser import CONTRASTS

from finemask.config import compose, plain
from finemask.reports.learning_curve_page import learning_curve_page
from finemask.workflows.compare_models import compare_models
from finemask.workflows.data.dataset_statistics import write_statistics
from finemask.workflows.data.find_suspects import write_suspects

POINT = {"objects": 380, "standard_error": 0.012, "run": "fraction/2026-01-01"}


@pytest.fixture(scope="module")
def pages(faulty, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")

    def options(verb, **words):
        return plain(compose(verb, [f"{key}={value}" for key, value in words.items()]))

    images = {"annotations": faulty.faulty, "images": faulty.images}
    half = folder / "half.json"
    half.write_text(json.dumps(json.loads(faulty.results.read_text())[::2]))
    write_statistics(options("data_stats", output=folder / "statistics", **images))
    write_suspects(options("data_suspects", predictions=faulty.results, output=folder / "suspects", **images))
    compare_models(options("compare", a=half, b=faulty.results, output=folder / "comparison", **images))
    content = {
        "metric": "segm_AP",
        "text": "AP rises.",
        "points": [POINT | {"fraction": n / 4, "images": 30 * n, "AP": 0.2 + 0.05 * n} for n in (1, 2, 4)],
        "law": {"a": 0.6, "b": 1.2, "c": 0.5},
        "doubling": {"confidence": 0.95},
    }
    laws = np.array([[0.6, 1.2, 0.5], [0.62, 1.25, 0.5], [0.58, 1.1, 0.5]])
    (folder / "curve").mkdir()
    (folder / "curve/index.html").write_text(learning_curve_page(content, laws, title="nuts", folder=folder))
    return folder


@pytest.fixture(params=["statistics", "suspects", "comparison", "curve"])
def page(request, pages, tab):
    path: Path = pages / request.param / "index.html"
    tab.prefer("light")
    tab.open(path)
    tab.value("localStorage.clear()")
    return path


def test_a_page_fits_any_window_and_complains_of_nothing(page, tab):
    for width in (1280, 390):
        tab.open(page, width=width)
        assert tab.value("document.documentElement.scrollWidth") <= width
        assert tab.complaints == []
        assert all(address.startswith(("file:", "data:")) for address in tab.requests)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_of_every_page_can_be_read_in_both_themes(page, tab, theme):
    tab.prefer(theme)
    tab.open(page)
    assert tab.value(CONTRASTS) == []


def test_every_page_has_the_button_of_the_theme_links_that_lead_somewhere_and_its_version(page, tab):
    tab.open(page)
    assert tab.value("document.getElementById('theme').textContent") == "Dark"
    assert tab.value("[...document.querySelectorAll('nav a')].every(link => document.querySelector(link.hash))")
    assert "finemask" in tab.value("document.querySelector('footer dd:last-child').textContent")


def test_pictures_and_charts_of_every_page_say_what_they_are(page, tab):
    tab.open(page)
    named = "[...document.querySelectorAll('svg')].every(svg => svg.getAttribute('aria-label'))"
    assert tab.value(named)
    assert tab.value("[...document.querySelectorAll('.view img')].every(image => image.naturalWidth && image.alt)")


def test_pictures_of_suspects_open_large_and_hidden_ones_are_passed_over(pages, tab):
    tab.open(pages / "suspects/index.html")
    rules = "[...document.querySelectorAll('[data-rule]')].map(card => card.dataset.rule)"
    rule = tab.value(rules)[0]
    others = sum(other != rule for other in tab.value(rules))
    assert others
    chooser = "document.getElementById('rule')"
    tab.value(f"{chooser}.value = '{rule}'; {chooser}.dispatchEvent(new Event('change'))")
    cards = "[...document.querySelectorAll('[data-rule]')]"
    assert tab.value(f"{cards}.filter(card => !card.getClientRects().length).length") == others
    tab.value("document.querySelector('.view').click()")
    for _ in range(3):
        assert rule in tab.value("document.getElementById('large-name').textContent")
        tab.press("ArrowRight")
    assert tab.value("document.querySelectorAll('#large-sides button').length") == 2
    tab.press("Escape")
