"""The shell of every page: one self-contained HTML file, light and dark, readable without a network."""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from finemask.errors import DataError
from finemask.ops.colours import verdict_css
from finemask.ops.wording import fraction, plural


class Links(NamedTuple):
    """Where a page finds its style and scripts if they are not in it.

    Args:
        folder: address of the folder with ``kit_files`` and the files below, with a slash behind it.
        styles: names of style sheets besides the kit's.
        modules: names of JavaScript modules.
    """

    folder: str
    styles: Sequence[str]
    modules: Sequence[str]


def page(
    title: str,
    body_html: Markup,
    *,
    eyebrow: str = "finemask",
    lead: str = "",
    sections: Sequence[tuple[str, str]] = (),
    footer: Mapping[str, str] | None = None,
    links: Links | None = None,
) -> str:
    """Renders a document.

    Args:
        title: heading and name of the tab; escaped.
        body_html: what comes between heading and foot, mostly made of a template, see ``templates``. Whoever builds it
            escapes what people wrote: it must be ``Markup``.
        eyebrow: small line over the title; escaped.
        lead: a line under the title; escaped.
        sections: ids in the body and their names, for the links on top.
        footer: names and values at the foot of the page, besides the version; escaped.
        links: of a page that a server gives, whose style and scripts are files beside it, so that its policy may
            forbid any other. Without them everything is in the document.

    Returns:
        The document, one string.

    Raises:
        TypeError: ``body_html`` is plain text, of which nobody knows whether it was escaped.
    """
    if not isinstance(body_html, Markup):
        raise TypeError("body_html must be markupsafe.Markup: text from files has to be escaped first")
    return (
        templates()
        .get_template("shell.html.j2")
        .render(
            title=title,
            body=body_html,
            eyebrow=eyebrow,
            lead=lead,
            sections=sections,
            footer={**(footer or {}), "Made with": f"finemask {version('finemask')}"},
            version=version("finemask"),
            style=Markup(kit_files()["kit.css"]),
            theme_script=_own("theme.js"),
            page_script=_own("page.js"),
            linked=links and links.folder,
            styles=links.styles if links else (),
            modules=links.modules if links else (),
        )
    )


def kit_files() -> dict[str, str]:
    """What a page with ``links`` asks for of the kit: name to content."""
    own = {name: str(_own(name)) for name in ("theme.js", "page.js", "icon.svg")}
    return own | {"kit.css": verdict_css() + str(_own("style.css"))}


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


@cache
def templates(package: str = __package__) -> Environment:
    """Templates of a package's folder ``templates``, and those of the kit, whose pieces (``kit.html.j2``) they share.

    Args:
        package: dotted name.
    """
    others = [PackageLoader(package)] if package != __package__ else []
    environment = Environment(
        loader=ChoiceLoader([*others, PackageLoader(__package__, ".")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "fraction": fraction,
        "percent": percent_cell,
        "percent_name": percent_name,
        "count": "{:,}".format,
        "plural": plural,
        "interval": interval,
        "percent_interval": percent_interval,
    }
    return environment


def _own(name: str) -> Markup:
    """A file of the kit, with nothing of the user's in it."""
    environment = templates()
    assert environment.loader is not None
    return Markup(environment.loader.get_source(environment, name)[0])


def percent_cell(value: float | None) -> str:
    """0.4123 is 41.2 %, with one decimal as columns of numbers have it; a dash for nothing."""
    return "–" if value is None else f"{100 * value:.1f}\N{NO-BREAK SPACE}%"


def percent_name(value: float | None) -> str:
    """0.95 is 95 %, as a level is called; nothing for nothing."""
    return "" if value is None else f"{100 * value:.4g}\N{NO-BREAK SPACE}%"


def interval(ends: Sequence[float | None] | None) -> str:
    """Both ends with three decimals; nothing where one is missing."""
    low, high = ends or (None, None)
    return "" if low is None or high is None else f"{low:.3f} to {high:.3f}"


def percent_interval(ends: Sequence[float | None] | None) -> str:
    """Both ends in percent; nothing where one is missing."""
    low, high = ends or (None, None)
    return "" if low is None or high is None else f"{100 * low:.1f} to {100 * high:.1f}\N{NO-BREAK SPACE}%"
