"""The page of statistics."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from stats_data import rectangle

from finemask.datatools.stats.dataset_summary import summarise
from finemask.datatools.stats.image_stats import measure_images
from finemask.datatools.stats.object_stats import measure_objects
from finemask.datatools.stats.training_advice import advise, train_command
from finemask.reports.statistics_page import stats_page

HW = (60, 80)
VOID = {"meta", "img", "br", "line", "rect", "circle", "path", "polyline"}


class Outline(HTMLParser):
    """Checks that tags nest; collects headings, code and pictures."""

    def __init__(self):
        super().__init__()
        self.open, self.headings, self.code, self.pictures = [], [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        if tag == "img":
            self.pictures.append(dict(attrs)["src"])

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("h1", "h2", "h3"):
            self.headings.append(data)
        if self.open and self.open[-1] == "code":
            self.code.append(data)


@pytest.fixture
def page_of(index_of, settings_of, tmp_path):
    def page(images, objects, *, look=True, **options):
        index = index_of(images, objects, **options)
        measured, settings = measure_objects(index), settings_of()
        opened = measure_images(index, None) if look else None
        summary = summarise(index, measured, opened, settings)
        advice = advise(index, measured, settings, tmp_path / "images")
        command = train_command(advice, settings, index.annotations_path, tmp_path / "images")
        html = stats_page(index, measured, opened, summary, settings, advice, command)
        outline = Outline()
        outline.feed(html)
        assert outline.open == []
        return html, outline, advice, command

    return page


def test_everything_is_on_the_page_and_advice_comes_first(page_of):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (*HW, 3), dtype=np.uint8) for _ in range(3)]
    html, outline, advice, command = page_of(
        images, [(0, "a", rectangle(HW, 5, 5, 30, 40)), (1, "b", rectangle(HW, 0, 0, 9, 9))]
    )
    sections = ["What it means for training", "Objects", "Classes", "Images", "Worth a look"]
    assert [heading for heading in outline.headings if heading in sections] == sections
    for title in ("Size of the objects", "Anchors", "Objects in an image", "Shape of the boxes", "Where objects sit",
                  "Crowding", "Size of the images", "Brightness", "Contrast", "Sharpness"):  # fmt: skip
        assert title in outline.headings
    assert html.count('<svg class="chart"') == 10
    assert [item.typed() for item in advice if item.typed()] + [command] == outline.code
    assert len(outline.pictures) == 4
    assert all(address.startswith("data:image/jpeg;base64,") for address in outline.pictures)


def test_without_images_it_says_so(page_of):
    html, outline, _, _ = page_of([HW], [(0, "a", rectangle(HW, 5, 5, 30, 40))], look=False)
    assert "were not opened" in html
    assert "Add images=" in html
    assert not {"Brightness", "Sharpness", "Worth a look"} & set(outline.headings)
    assert outline.pictures == []


def test_a_file_without_objects_has_a_page(page_of):
    html, outline, _, _ = page_of([HW], [], crowds=[(0, "a", rectangle(HW, 0, 0, 9, 9))])
    assert "Nothing: there are no objects to train on." in html
    assert not {"Classes", "Objects"} & set(outline.headings)


def test_classes_without_objects_are_named_and_not_listed(page_of):
    html, _, _, _ = page_of([HW], [(0, "a", rectangle(HW, 5, 5, 30, 40))], names=["a", "zebra", "yak"])
    assert "2 of 3 classes have no object: zebra, yak." in html
    assert html.count('<th scope="row"') == 1


def test_names_of_people_cannot_become_markup(page_of):
    html, _, _, _ = page_of([HW], [(0, "<script>alert(1)</script>", rectangle(HW, 5, 5, 30, 40))])
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert(1)" in html


def test_bad_images_are_named_and_the_rest_is_shown(page_of, index_of, tmp_path, monkeypatch):
    import finemask.datatools.stats.image_stats as images

    real = images._measure
    monkeypatch.setattr(images, "_measure", lambda index, row: "it is torn" if row == 0 else real(index, row))
    html, outline, _, _ = page_of([HW, HW], [(0, "a", rectangle(HW, 5, 5, 30, 40))])
    assert "1 image cannot be used. image_0.png: it is torn" in html
    assert re.search(r"Ask: finemask data check annotations=\S+train\.json", html)
    assert "Most objects" not in html  # that image cannot be shown
    assert len(outline.pictures) == 3
