"""One self-contained HTML page: light and dark, readable without a network."""

from collections.abc import Mapping
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from markupsafe import Markup, escape

from finemask.errors import DataError
from finemask.ops.colours import verdict_css

_SORTING = """
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  headings.forEach((heading, column) => heading.firstElementChild.addEventListener("click", () => {
    const before = heading.getAttribute("aria-sort");
    const direction = before ? (before === "descending" ? "ascending" : "descending")
      : (column ? "descending" : "ascending");
    headings.forEach(other => other.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", direction);
    const sign = direction === "ascending" ? 1 : -1;
    const value = row => row.cells[column].dataset.value;
    const compare = column ? (a, b) => value(a) - value(b) : (a, b) => value(a).localeCompare(value(b));
    body.append(...[...body.rows].sort((a, b) => sign * compare(a, b)));
  }));
}
"""


def refuse_foreign_page(path: Path, eyebrow: str) -> None:
    """Raises where a page of something else, or anything but a folder, would be overwritten.

    Args:
        path: of the page that is to be written into its folder.
        eyebrow: of such pages.

    Raises:
        DataError: a page with another eyebrow is there, or a file in the place of the folder.
    """
    folder = path.parent
    if folder.exists() and not folder.is_dir():
        raise DataError("this is a file; a folder was expected", where=folder, remedy="Choose another one with output=")
    if path.exists() and eyebrow not in path.read_text(encoding="utf-8", errors="replace"):
        raise DataError(
            "there is a page of something else here already, and it would be overwritten",
            where=path,
            remedy="Choose another folder with output=",
        )


def page(
    title: str,
    body_html: Markup,
    *,
    eyebrow: str = "finemask",
    lead: str = "",
    footer: Mapping[str, str] | None = None,
) -> str:
    """Renders a document; its style sheet is ``page.css`` beside this file, which names the classes to use.

    Args:
        title: heading and name of the tab; escaped.
        body_html: what comes between heading and foot. Whoever builds it escapes what people wrote: it must be
            ``Markup``. Cells of a ``table.sortable`` carry ``data-value``, its headings a button.
        eyebrow: small line over the title; escaped.
        lead: a line under the title; escaped.
        footer: names and values at the foot of the page; escaped.

    Returns:
        The document, one string.

    Raises:
        TypeError: ``body_html`` is plain text, of which nobody knows whether it was escaped.
    """
    if not isinstance(body_html, Markup):
        raise TypeError("body_html must be markupsafe.Markup: text from files has to be escaped first")
    style = verdict_css() + files(__package__).joinpath("page.css").read_text(encoding="utf-8")
    facts = Markup("").join(
        Markup("<dt>{}</dt><dd>{}</dd>").format(name, value) for name, value in (footer or {}).items()
    )
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f'<meta name="generator" content="finemask {escape(version("finemask"))}">',
        f"<title>{escape(title)} · finemask</title>\n<style>\n{style}</style>\n</head>\n<body>\n<header>",
        f'<div class="eyebrow">{escape(eyebrow)}</div>\n<h1>{escape(title)}</h1>',
        f'<p class="lead">{escape(lead)}</p>' if lead else "",
        f"</header>\n<main>\n{body_html}\n</main>",
        f"<footer><dl>{facts}</dl></footer>" if footer else "",
        f"<script>{_SORTING}</script>\n</body>\n</html>\n",
    ]
    return "\n".join(filter(None, parts))
