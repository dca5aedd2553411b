"""The document of the demo and its files, read without a browser: whole, labelled, asking nobody else for anything."""

import re
from html.parser import HTMLParser

import pytest
from html_page import Page

from finemask.ops.colours import colours
from finemask.serving.demo_page import FOLDER, PAGE_HEADERS, demo_page, page_files
from finemask.types import Category

CATEGORIES = (Category(1, "fig"), Category(7, '<date> & "co"'))
HTML = demo_page("my <model>", CATEGORIES)
FILES = {name: file.content.decode() for name, file in page_files().items()}
SCRIPTS = {name: text for name, text in FILES.items() if name.endswith(".js")}


class Controls(HTMLParser):
    """Elements with their attributes and the text inside them; void ones have none."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.stack = [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        element = {"tag": tag, "text": "", "inside": [outer["tag"] for outer in self.stack], **dict(attributes)}
        element["label"] = next((outer for outer in reversed(self.stack) if outer["tag"] == "label"), None)
        self.elements.append(element)
        if tag not in ("input", "meta", "link", "img", "br"):
            self.stack.append(element)

    def handle_endtag(self, tag):
        while self.stack and self.stack.pop()["tag"] != tag:
            pass

    def handle_data(self, data):
        for element in self.stack:
            element["text"] += data.strip()


ELEMENTS = Controls(HTML).elements


def test_every_address_is_one_of_the_files_beside_it():
    addresses = Page(HTML).addresses
    assert {f"{FOLDER}{name}" for name in ("kit.css", "demo.css", "demo.js", "page.js", "theme.js")} <= set(addresses)
    assert {address.removeprefix(FOLDER) for address in addresses} <= FILES.keys()
    outside = re.compile(r"(?:https?:)?//[\w.-]+\.\w")
    texts = {"the document": HTML} | FILES
    found = {
        name: outside.findall(re.sub(r'xmlns="[^"]*"|"http://www.w3.org/\S+"', "", text))
        for name, text in texts.items()
    }
    assert {name: hits for name, hits in found.items() if hits} == {}
    assert not re.search(r"url\(|@import", FILES["demo.css"])


def test_scripts_import_what_is_there_and_all_of_it_is_used():
    imports = {name: re.findall(r'from "\./([\w.]+)"', text) for name, text in SCRIPTS.items()}
    assert {target for targets in imports.values() for target in targets} <= FILES.keys()
    reached, todo = set(), ["demo.js"]
    while todo:
        name = todo.pop()
        reached.add(name)
        todo += [target for target in imports[name] if target not in reached]
    assert SCRIPTS.keys() - reached == {"page.js", "theme.js"}


@pytest.mark.parametrize("name", sorted(set(SCRIPTS) - {"page.js", "theme.js"}))
def test_a_script_fits_in_a_head_and_says_what_it_is_for(name):
    lines = SCRIPTS[name].splitlines()
    assert len(lines) <= 300
    assert max(map(len, lines)) <= 120
    assert lines[0].startswith("// ")


def test_scripts_look_for_what_the_document_has():
    ids = set(Page(HTML).ids)
    asked = {name: set(re.findall(r'(?:part|getElementById)\("([\w-]+)"\)', text)) for name, text in SCRIPTS.items()}
    asked.pop("page.js")
    assert len(asked["demo.js"]) > 20
    assert {name: wanted - ids for name, wanted in asked.items() if wanted - ids} == {}


def test_the_document_is_whole():
    page = Page(HTML)
    assert len(page.ids) == len(set(page.ids))
    assert set(page.references) <= set(page.ids)
    assert "my <model>" in page.words
    assert 'Finds fig, <date> & "co".' in page.words


def test_every_control_has_a_name():
    labelled = {element["for"] for element in ELEMENTS if element["tag"] == "label" and element.get("for")}
    controls = [e for e in ELEMENTS if e["tag"] in ("input", "button", "select", "textarea", "canvas", "video")]
    assert len(controls) > 15
    for control in controls:
        if control["tag"] in ("canvas", "video"):  # what they show is said by what is around them
            continue
        own_text = control["tag"] == "button" and control["text"]
        named = control.get("aria-label") or control.get("id") in labelled or control["label"] or own_text
        assert named, control
    regions = [e for e in ELEMENTS if e.get("role") in ("application", "group", "region", "radiogroup")]
    assert len(regions) >= 5
    assert all(e.get("aria-label") or e.get("aria-labelledby") for e in regions)


def test_news_is_told_to_screen_readers():
    roles = {element.get("role") for element in ELEMENTS}
    assert {"status", "alert"} <= roles


def policy():
    return {
        name: values for name, *values in (part.split() for part in PAGE_HEADERS["content-security-policy"].split(";"))
    }


def test_the_policy_lets_in_the_page_and_nothing_else():
    assert policy()["default-src"] == ["'none'"]
    assert {value for values in policy().values() for value in values} == {"'none'", "'self'"}
    assert {"base-uri", "form-action", "frame-ancestors"} <= policy().keys(), "these do not follow default-src"
    for element in ELEMENTS:
        assert not [name for name in element if name.startswith("on") or name == "style"], "the policy forbids it"
        assert element["tag"] != "style"
        assert element["tag"] != "script" or ("src" in element and not element["text"])
    for name, text in SCRIPTS.items():
        assert not re.search(r"\beval\(|new Function|setAttribute\(\"(style|on)", text), name
        if name != "page.js":  # the kit's, which writes nothing of the user's
            assert "innerHTML" not in text, name


def test_colours_are_those_of_overlays():
    (demo,) = (element for element in ELEMENTS if element.get("id") == "demo")
    assert demo["data-colours"].split()[:3] == [f"#{bytes(colour).hex()}" for colour in colours(range(3))]


def test_files_are_served_as_what_they_are():
    kinds = {name: file.media_type.partition(";")[0] for name, file in page_files().items()}
    assert kinds["demo.js"] == "text/javascript"
    assert kinds["kit.css"] == kinds["demo.css"] == "text/css"
    assert kinds["icon.svg"] == "image/svg+xml"


@pytest.mark.parametrize(("count", "end"), [(8, "c7."), (9, "c7, c8."), (11, "c7 and 3 other classes.")])
def test_many_classes_are_not_all_listed(count, end):
    html = demo_page("m", [Category(k, f"c{k}") for k in range(count)])
    assert f"c6, {end}" in Page(html).words
