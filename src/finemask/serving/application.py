"""The application: one function puts it together from a predictor and settings."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from finemask.errors import ConfigError, DataError, FinemaskError, MissingExtraError
from finemask.inference.predictor import Predictor
from finemask.serving.demo_page import page_routes
from finemask.serving.door import Door
from finemask.serving.image_service import ImageService
from finemask.serving.labelling.label_studio import label_studio_routes
from finemask.serving.predict_routes import predict_routes
from finemask.serving.refusals import RefusalError, error_body
from finemask.serving.server_settings import ServerSettings
from finemask.serving.status_routes import status_routes

if TYPE_CHECKING:
    from fastapi import FastAPI

_CODES = {404: "not-found", 405: "method-not-allowed"}


def build_application(predictor: Predictor, settings: ServerSettings) -> "FastAPI":
    """The application of ``finemask serve`` and ``finemask demo``, to be run by an ASGI server.

    Its ``state.service`` is the ``ImageService`` that all routes use.

    Args:
        predictor: loaded; the application alone uses it from then on.
        settings: limits and doors.

    Raises:
        MissingExtraError: the packages of the extra ``serve`` are not installed.
        ConfigError: a threshold that the model file does not hold.
    """
    try:
        from fastapi import FastAPI, Request, Response
        from fastapi.exceptions import RequestValidationError
        from starlette.exceptions import HTTPException
        from starlette.middleware.cors import CORSMiddleware
    except ImportError as error:
        raise MissingExtraError("fastapi", "serve", needed_for="the server") from error

    service = ImageService(predictor, settings)

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        warming = asyncio.create_task(service.start())
        try:
            yield
        finally:
            await service.stop()
            await warming

    application = FastAPI(
        title="finemask",
        summary=f"Finds {', '.join(category.name for category in predictor.categories)} in images.",
        version=version("finemask"),
        lifespan=life,
        docs_url=None,  # its pages load their scripts from elsewhere
        redoc_url=None,
    )
    application.state.service = service
    application.include_router(status_routes(service))
    application.include_router(predict_routes(service))
    application.include_router(label_studio_routes(service))
    application.include_router(page_routes(service))

    def answer(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Response:
        shown = {"x-error-code": code} | (headers or {})
        return Response(error_body(code, message), status, shown, "application/json")

    async def refused(_: Request, error: Any) -> Response:
        return answer(error.status, error.code, str(error), error.headers)

    async def unanswerable(_: Request, error: Any) -> Response:
        code = {DataError: "unreadable-image", ConfigError: "bad-parameter"}.get(type(error), "unanswerable")
        return answer(422, code, str(error))

    async def bad_parameter(_: Request, error: Any) -> Response:
        said = "; ".join(f"{one['loc'][-1]}: {one['msg']}" for one in error.errors())
        return answer(422, "bad-parameter", said)

    async def no_route(request: Request, error: Any) -> Response:
        what = {
            404: f"there is nothing at {request.url.path}",
            405: f"{request.method} is not for {request.url.path}",
        }.get(error.status_code, str(error.detail))
        headers = dict(error.headers or {})
        return answer(error.status_code, _CODES.get(error.status_code, "refused"), f"{what}.", headers)

    application.add_exception_handler(RefusalError, refused)
    application.add_exception_handler(FinemaskError, unanswerable)
    application.add_exception_handler(RequestValidationError, bad_parameter)
    application.add_exception_handler(HTTPException, no_route)
    if settings.cors_origins:
        application.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=("GET", "POST"),
            allow_headers=("authorization", "content-type"),
        )
    application.add_middleware(Door, service=service)
    return application
