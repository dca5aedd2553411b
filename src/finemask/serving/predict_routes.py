"""``POST /predict``: an image in, instances or an overlay out."""

import asyncio
import io
import json
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from PIL import Image

from finemask.errors import did_you_mean
from finemask.inference.score_limits import Threshold, score_limits
from finemask.model_header import POINTS
from finemask.serving.answers import ErrorAnswer, Masks, Prediction, as_json, prediction_of
from finemask.serving.image_service import Found, ImageService
from finemask.serving.received_image import ReceivedImage, address_of, client_gone, image_of, read_body
from finemask.serving.refusals import RefusalError

if TYPE_CHECKING:
    from fastapi import APIRouter, Request

_PNG = "image/png"
_MOST_JSON_BYTES = 64 * 1024  # of a body that names an address
_IMAGE = {"schema": {"type": "string", "format": "binary"}}
_BODIES = {
    "image/*": _IMAGE,
    "application/octet-stream": _IMAGE,
    "multipart/form-data": {
        "schema": {
            "type": "object",
            "required": ["image"],
            "properties": {"image": {"type": "string", "format": "binary", "description": "The file of an image."}},
        }
    },
}
_BY_ADDRESS = {
    "application/json": {
        "schema": {
            "type": "object",
            "required": ["url"],
            "properties": {"url": {"type": "string", "format": "uri", "description": "Where the image is."}},
        }
    }
}
_REFUSED = {
    400: "No image in the request, or a form or JSON that cannot be read.",
    401: "The token is missing or wrong.",
    403: "Another origin or host than the server's, or an address that is not fetched.",
    406: "Neither JSON nor PNG is wanted.",
    408: "The body came too slowly.",
    413: "Too many bytes or pixels.",
    415: "No image that can be read here.",
    422: "A damaged image, or a parameter that cannot be.",
    429: "As many images wait as may.",
    503: "The model is not ready, or there was no time; try again.",
}


def predict_routes(service: ImageService) -> "APIRouter":
    """The route, for the application."""
    from fastapi import APIRouter, Query, Request, Response

    router = APIRouter()
    bodies = _BODIES | (_BY_ADDRESS if service.settings.allow_urls else {})
    answers: dict[int | str, dict[str, Any]] = {
        status: {"model": ErrorAnswer, "description": what} for status, what in _REFUSED.items()
    }
    answers[200] = {"model": Prediction, "description": "What was found.", "content": {_PNG: _IMAGE}}

    @router.post(
        "/predict",
        summary="Find instances in an image",
        responses=answers,
        openapi_extra={"requestBody": {"required": True, "content": bodies}},
    )
    async def predict(
        request: Request,
        threshold: str = Query(
            "auto", description="Least score, from 0 to 1; auto: the server's own; or best_f1, precision_90, recall_90."
        ),
        masks: str = Query("polygon", description="polygon, rle or none.", pattern="^(polygon|rle|none)$"),
        classes: str | None = Query(None, description="Names of the classes wanted, by commas; all by default."),
    ) -> Response:
        """Takes the file of an image, as the body or as the field ``image`` of a form."""
        started = time.monotonic()
        as_picture = wants_picture(request.headers.get("accept", ""))
        wanted = _classes(classes, service)
        chosen = _threshold(threshold)
        if chosen is not None:
            score_limits(service.predictor.header, chosen)  # what cannot be is said at once, however busy the model is
        service.refuse_if_busy()
        deadline = started + service.settings.timeout_s
        with service.buffered() as hold:
            received = await _received(service, request, hold, deadline)
            finding = service.find(received.content, received.name or "image", chosen, deadline)
            found = await unless_gone(request, finding)
        instances = found.instances
        if wanted is not None:
            instances = instances[[at for at, name in enumerate(instances.class_names) if name in wanted]]
        if as_picture:
            return Response(await service.in_pool(lambda: png_of(instances.draw())), media_type=_PNG)
        shown = replace(found, instances=instances)
        form: Masks = masks  # type: ignore[assignment] # the pattern lets no other through

        def written() -> bytes:
            answer = prediction_of(
                shown,
                service.predictor.header,
                name=received.name,
                masks=form,
                warnings=service.warnings_of(found),
                total_ms=(time.monotonic() - started) * 1000,
            )
            return json.dumps(as_json(answer), ensure_ascii=False, separators=(",", ":")).encode()

        return Response(await service.in_pool(written), media_type="application/json")

    return router


async def unless_gone(request: "Request", work: Coroutine[Any, Any, Found]) -> Found:
    """What is being found for a client, as long as it is there.

    Args:
        request: whose body was read.
        work: given up when the client goes.

    Raises:
        RefusalError: it has gone.
    """
    finding, gone = asyncio.ensure_future(work), asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait((finding, gone), return_when=asyncio.FIRST_COMPLETED)
        if not finding.done():
            raise client_gone()
        return finding.result()
    finally:
        for task in (finding, gone):
            task.cancel()


async def _received(
    service: ImageService, request: "Request", hold: Callable[[int], None], deadline: float
) -> ReceivedImage:
    kind = request.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() != "application/json":
        body = await read_body(request, service.settings.max_bytes, hold, deadline)
        return await service.in_pool(lambda: image_of(body, kind))
    if not service.settings.allow_urls:
        raise RefusalError(
            403,
            "addresses-not-allowed",
            "this server fetches no images from addresses",
            remedy="Send the image itself; or start the server with allow_urls=true.",
        )
    return await service.fetch(address_of(await read_body(request, _MOST_JSON_BYTES, hold, deadline)), deadline)


def _threshold(text: str) -> Threshold | None:
    if text == "auto":
        return None
    if text in POINTS:
        return text  # type: ignore[return-value] # it is one of them
    try:
        return float(text)
    except ValueError:
        raise RefusalError(
            422, "bad-parameter", f"threshold={text}", remedy=f"It is auto, {', '.join(POINTS)}, or from 0 to 1."
        ) from None


def _classes(text: str | None, service: ImageService) -> frozenset[str] | None:
    if text is None:
        return None
    known = [category.name for category in service.predictor.categories]
    if text in known:  # a name may hold a comma
        return frozenset([text])
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in known:
            raise RefusalError(
                422,
                "bad-parameter",
                f"classes names {name[:100]!r}, which this model does not know",
                remedy=f"{did_you_mean(name[:100], known)}It knows: {', '.join(known)}.",
            )
    return frozenset(names)


def wants_picture(accept: str) -> bool:
    """Whether a header ``Accept`` asks for PNG rather than JSON.

    Raises:
        RefusalError: it asks for neither.
    """
    picture, document = _quality(accept, _PNG), _quality(accept, "application/json")
    if picture == document == 0:
        raise RefusalError(
            406, "not-acceptable", f"Accept: {accept} asks for what there is not",
            remedy="There is application/json and image/png.",
        )  # fmt: skip
    return picture > document


def _quality(accept: str, kind: str) -> float:
    """How much a kind is wanted, 0 to 1, by the most special of the ranges that it is in."""
    if not accept.strip():
        return 1.0
    best, quality = -1, 0.0
    for one in accept.split(","):
        span, *parameters = (part.strip().lower() for part in one.split(";"))
        fits = {kind: 2, f"{kind.partition('/')[0]}/*": 1, "*/*": 0}.get(span, -1)
        if fits > best:
            stated = next((part[2:] for part in parameters if part.startswith("q=")), "1")
            try:
                best, quality = fits, float(stated)
            except ValueError:
                continue
    return quality


def png_of(picture: Image.Image) -> bytes:
    """The file of a picture, in a third of the time of the smallest."""
    written = io.BytesIO()
    picture.save(written, "PNG", compress_level=1)
    return written.getvalue()
