"""A page read as plain text, for tests that need no browser."""

from html.parser import HTMLParser

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Checks that tags are balanced, and collects what a browser would fetch and what it would show."""

    def __init__(self, html):
        super().__init__()
        self.open, self.addresses, self.tags, self.text = [], [], [], []
        self.ids, self.references = [], []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name == "href" and value.startswith("#"):
                self.references.append(value[1:])
            elif name in ("src", "href", "srcset", "data", "action", "poster"):
                self.addresses.append(value)
            elif name == "id":
                self.ids.append(value)
            elif name in ("aria-labelledby", "aria-describedby", "for"):
                self.references += value.split()
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not set(self.open) & {"style", "script"}:
            self.text.append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())
