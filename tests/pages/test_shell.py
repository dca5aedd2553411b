"""The page: whole, escaped, without a network, and of the evaluation report's colours."""

import re
from importlib.resources import files

import pytest
from evaluation_data import random_dataset
from markupsafe import Markup
from report_data import evaluated, report

from finemask.pages.shell import Links, kit_files, page

STYLE = files("finemask.pages").joinpath("style.css").read_text(encoding="utf-8")


def variables(text):
    """The custom properties of each ``:root``: light, dark, print."""
    blocks = re.findall(r":root \{(.*?)\}", text, re.DOTALL)
    return [dict(re.findall(r"(--[\w-]+): ([^;]+);", block)) for block in blocks]


def test_text_is_escaped_and_markup_is_not():
    html = page("<a&b>", Markup("<p>hello</p>"), eyebrow="<i>", lead="x < y", footer={"<k>": "<v>"})
    assert "<p>hello</p>" in html
    assert "&lt;a&amp;b&gt;" in html
    assert "x &lt; y" in html
    assert "&lt;k&gt;" in html
    assert not re.search(r"<(a&b|i|k|v)>", html)


def test_plain_text_for_a_body_is_refused():
    with pytest.raises(TypeError, match="escaped"):
        page("t", "<b>whose?</b>")


def test_it_needs_nothing_from_anywhere():
    html = page("t", Markup("<p></p>"))
    assert not re.search(r"(src|href)=|url\(|@import|https?:", html)
    assert html.startswith("<!doctype html>")
    assert html.rstrip().endswith("</html>")
    assert html.count("<style>") == html.count("</style>") == 1


def test_it_looks_as_the_evaluation_report_does(tmp_path):
    """The one style sheet is in both, and holds each colour for light, dark and paper."""
    path, _ = report(tmp_path, evaluated(random_dataset(5)))
    assert STYLE in page("t", Markup("<p></p>"))
    assert STYLE in path.read_text(encoding="utf-8")
    light, dark, paper = variables(STYLE)
    assert light.keys() == dark.keys()
    assert {name for name in light if not name.startswith("--heat")} == paper.keys()


def luminance(colour):
    channels = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("ink", "paper"),
    [
        ("--ink", "--card"),
        ("--ink-2", "--card"),
        ("--ink-3", "--card"),
        ("--ink-3", "--page"),
        ("--ink", "--wash"),
        ("--card", "--accent"),
        ("--ink", "--accent-wash"),
    ],
)
def test_text_can_be_read_in_both_themes(theme, ink, paper):
    """WCAG AA: a contrast of 4.5."""
    colours = variables(STYLE)[0] | variables(STYLE)[theme]
    light, dark = sorted((luminance(colours[ink]), luminance(colours[paper])), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 4.5


def test_a_page_of_a_server_has_nothing_in_it_that_its_policy_forbids():
    """All it asks for is a file of the kit, or one that was named; the same style as in a page on its own."""
    html = page("t", Markup("<p></p>"), links=Links("kit/", styles=["own.css"], modules=["own.js"]))
    asked = re.findall(r'(?:src|href)="([^"]+)"', html)
    assert {name.removeprefix("kit/") for name in asked} == kit_files().keys() | {"own.css", "own.js"}
    assert not re.search(r"<style|<script>|https?:", html)
    assert kit_files()["kit.css"] in page("t", Markup("<p></p>"))
