"""The page of ``finemask demo``: one document and the files that it asks for, all of them from this package."""

import time
from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple

from markupsafe import Markup
from PIL import Image

from finemask.ops.colours import colours
from finemask.pages.shell import Links, kit_files, page, templates
from finemask.serving.image_service import ImageService
from finemask.serving.predict_routes import png_of
from finemask.serving.received_image import image_of, read_body
from finemask.types import Category

if TYPE_CHECKING:
    from fastapi import APIRouter

FOLDER = "assets/"  # relative, so that the page works behind a proxy that puts the server anywhere
OBJECT_COLOURS = 256  # objects that are told apart by colour; then the same again
_MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}

PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
    "cache-control": "no-cache",
}
"""Of the document and of its files: nothing of any other address is loaded, sent to, or may frame the page."""


class PageFile(NamedTuple):
    """A file that the page asks for."""

    content: bytes
    media_type: str


def page_routes(service: ImageService) -> "APIRouter":
    """``/``, its files, and ``/picture``, which shows it what a browser cannot read; for the application."""
    from fastapi import APIRouter, Request, Response
    from starlette.exceptions import HTTPException

    router = APIRouter(include_in_schema=False)
    document = demo_page(service.settings.name, service.predictor.categories).encode()
    known = page_files()

    @router.get("/")
    async def index() -> Response:
        return Response(document, headers=PAGE_HEADERS, media_type="text/html")

    @router.get(f"/{FOLDER}{{name}}")
    async def asset(name: str) -> Response:
        if name not in known:
            raise HTTPException(404)
        return Response(known[name].content, headers=PAGE_HEADERS, media_type=known[name].media_type)

    @router.post("/picture")
    async def picture(request: Request) -> Response:
        """An image as the model sees it, upright and of 8 bits, as PNG."""
        service.refuse_if_busy()
        until = time.monotonic() + service.settings.timeout_s
        with service.buffered() as hold:
            body = await read_body(request, service.settings.max_bytes, hold, until)
            kind = request.headers.get("content-type", "")
            received = await service.in_pool(lambda: image_of(body, kind))
            async with service.pixels(received.content, until) as pixels:
                shown = await service.in_pool(lambda: png_of(Image.fromarray(pixels)))
        return Response(shown, headers=PAGE_HEADERS, media_type="image/png")

    return router


def demo_page(name: str, categories: Sequence[Category]) -> str:
    """The document.

    Args:
        name: of the model.
        categories: of the model.
    """
    body = templates(__package__).get_template("demo.html.j2")
    palette = [f"#{bytes(colour).hex()}" for colour in colours(range(OBJECT_COLOURS))]
    return page(
        name,
        Markup(body.render(colours=palette)),
        eyebrow="finemask demo",
        lead=_finds([category.name for category in categories]),
        links=Links(FOLDER, styles=["demo.css"], modules=["demo.js"]),
    )


def page_files() -> dict[str, PageFile]:
    """Every file below ``FOLDER`` by its name; there are no others, whatever an address says."""
    texts = kit_files()
    for entry in files(__package__).joinpath("page").iterdir():
        texts[entry.name] = entry.read_text(encoding="utf-8")
    return {
        name: PageFile(text.encode(), f"{_MEDIA_TYPES[name[name.rindex('.') :]]}; charset=utf-8")
        for name, text in texts.items()
    }


def _finds(names: Sequence[str], most: int = 8) -> str:
    listed = ", ".join(names[:most])
    rest = len(names) - most
    return f"Finds {listed}{f' and {rest} other classes' if rest > 1 else f', {names[most]}' if rest == 1 else ''}."
