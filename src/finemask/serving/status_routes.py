"""``/health``, ``/ready``, ``/info`` and ``/metrics``: how the server is, what it serves, what it has done."""

import json
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from finemask.ops.colours import colours
from finemask.serving.answers import (
    CategoryFacts,
    ErrorAnswer,
    Limits,
    ModelFacts,
    Status,
    applied_threshold,
    as_json,
)
from finemask.serving.image_service import ImageService
from finemask.serving.refusals import RefusalError

if TYPE_CHECKING:
    from fastapi import APIRouter


def status_routes(service: ImageService) -> "APIRouter":
    """The routes, for the application."""
    from fastapi import APIRouter, Response

    router = APIRouter()
    info = json.dumps(as_json(model_facts(service)), ensure_ascii=False).encode()

    def answer(status: str) -> Response:
        return Response(json.dumps({"status": status}), media_type="application/json")

    @router.get("/health", summary="Whether the process lives", responses={200: {"model": Status}})
    async def health() -> Response:
        """Always 200: for a supervisor that restarts what does not answer."""
        return answer("ok")

    @router.get(
        "/ready",
        summary="Whether images are answered",
        responses={200: {"model": Status}, 503: {"model": ErrorAnswer, "description": "Not yet, or no longer."}},
    )
    async def ready() -> Response:
        """200 when the model has seen a first image, until the server stops: for a load balancer."""
        if not service.is_ready:
            raise RefusalError(503, "not-ready", f"the model is {service.state}", retry_after_s=5)
        return answer("ready")

    @router.get("/info", summary="The model and the limits", responses={200: {"model": ModelFacts}})
    async def model() -> Response:
        """Classes, thresholds, metrics, preprocessing, versions; and what may be sent."""
        return Response(info, media_type="application/json")

    @router.get("/metrics", summary="Numbers for Prometheus", responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """Requests by status, latencies, queue, batches, memory."""
        content, kind = service.metrics.text()
        return Response(content, headers={"content-type": kind})

    return router


def model_facts(service: ImageService) -> ModelFacts:
    """What ``/info`` says."""
    header, settings = service.predictor.header, service.settings
    shown = colours(range(len(header.categories)))
    preprocessing: dict[str, Any] = asdict(service.predictor.preprocessing)
    return ModelFacts(
        name=settings.name,
        categories=[
            CategoryFacts(category.id, category.name, f"#{bytes(colour).hex()}")
            for category, colour in zip(header.categories, shown, strict=True)
        ],
        thresholds={"global": header.thresholds["global"], "per_class": dict(header.thresholds["per_class"])},
        threshold=applied_threshold(header, settings.threshold),
        metrics=dict(header.metrics),
        preprocessing=preprocessing | {"image": service.predictor.reading.to_json()},
        device=str(service.predictor.device),
        versions=dict(header.versions) | {"server": version("finemask")},
        limits=Limits(
            max_bytes=settings.max_bytes,
            max_pixels=settings.max_pixels,
            queue_size=settings.queue_size,
            timeout_s=settings.timeout_s,
            urls=settings.allow_urls,
        ),
    )
