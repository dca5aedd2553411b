"""XML without document types: nothing to expand, nothing to fetch."""

from pathlib import Path
from xml.etree.ElementTree import Element, ParseError, TreeBuilder, XMLParser

from finemask.errors import DataError
from finemask.ops.json_file import read_bytes


class _NoDoctype(TreeBuilder):
    """The parser calls ``doctype`` as soon as it meets one, before any entity of it is used."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        """Refuses."""
        raise ValueError(f"it declares a document type ({name})")


def read_xml(path: Path, what: str) -> Element:
    """Parses a file.

    Args:
        path: the file.
        what: what it should be, for messages.

    Raises:
        DataError: it cannot be read, is no XML, or declares a document type, which could make it expand without
            bound or read other files.
    """
    content = read_bytes(path, what)
    parser = XMLParser(target=_NoDoctype())
    try:
        parser.feed(content)
        root: Element = parser.close()
    except ValueError as error:
        raise DataError(
            f"this XML is refused: {error}", where=path, remedy="Annotation tools write none. Take the DOCTYPE out"
        ) from None
    except ParseError as error:
        raise DataError(f"broken XML ({error}); {what} was expected", where=path) from None
    return root


def text_of(element: Element, tag: str) -> str:
    """The text of a child, stripped; empty if there is none."""
    return (element.findtext(tag) or "").strip()
