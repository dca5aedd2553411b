"""Label Studio's ML backend protocol, under ``/label-studio``: predictions for its tasks. It never trains."""

import asyncio
import base64
import binascii
import json
import logging
import os
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit
from urllib.request import Request as UrlRequest
from urllib.request import urlopen

from finemask.errors import DataError
from finemask.inference.content.web_fetch import FetchLimits, KnownServer, fetch
from finemask.serving.image_service import ImageService
from finemask.serving.labelling.labelling_config import LabelMatch, match_labels
from finemask.serving.labelling.labelling_regions import regions_of
from finemask.serving.received_image import ReceivedImage, json_of, plain_name, read_body
from finemask.serving.refusals import RefusalError

if TYPE_CHECKING:
    from fastapi import APIRouter

log = logging.getLogger(__name__)

PREFIX = "/label-studio"
KEY_VARIABLE = "LABEL_STUDIO_API_KEY"
_ACCESS_S = 240.0  # that a token got for a personal access token is used; Label Studio lets it live for 300
_AT_A_TIME = 8  # tasks of a request: enough for the model to be handed several together
_LOCAL_FILES = "/data/local-files/"


def label_studio_routes(service: ImageService) -> "APIRouter":
    """The routes, for the application."""
    from fastapi import APIRouter, Request, Response

    router = APIRouter(prefix=PREFIX, include_in_schema=False)
    images = TaskImages(service)
    class_names = [category.name for category in service.predictor.categories]
    header = service.predictor.header
    version = f"{service.settings.name}@{header.sha256[:8]}" if header.sha256 else service.settings.name
    said: set[str] = set()

    def answer(content: Any, status: int = 200) -> Response:
        return Response(json.dumps(content, ensure_ascii=False), status, media_type="application/json")

    def matched(label_config: Any) -> LabelMatch:
        if not isinstance(label_config, str) or not label_config.strip():
            raise RefusalError(400, "bad-json", "the body has no label_config", remedy="Label Studio sends it itself.")
        match = match_labels(label_config, class_names)
        if (words := match.in_words()) is not None and words not in said:
            said.add(words)
            log.warning("Label Studio: %s", words)
        return match

    async def body_of(request: Request) -> Mapping[str, Any]:
        with service.buffered() as hold:
            deadline = time.monotonic() + service.settings.timeout_s
            content = json_of(await read_body(request, service.settings.max_bytes, hold, deadline))
        if not isinstance(content, dict):
            raise RefusalError(400, "bad-json", "the body is not a JSON object")
        return content

    @router.get("")
    @router.get("/")
    @router.get("/health")
    async def health() -> Response:
        """What Label Studio asks before all else."""
        return answer({"status": "UP", "model_class": "finemask", "model_version": version})

    @router.get("/versions")
    async def versions() -> Response:
        """The one version there is."""
        return answer({"versions": [version]})

    @router.post("/setup")
    async def setup(request: Request) -> Response:
        """Looks at the labels of a project, which may have none yet."""
        content = await body_of(request)
        schema = content.get("schema") or content.get("label_config")
        match = matched(schema) if isinstance(schema, str) and schema.strip() else None
        return answer({"model_version": version} | ({} if match is None else {"labels": _labels(match)}))

    @router.post("/validate")
    async def validate(request: Request) -> Response:
        """The same for a configuration alone."""
        return answer({"labels": _labels(matched((await body_of(request)).get("config")))})

    @router.post("/predict")
    async def predict(request: Request) -> Response:
        """Instances of each task's image, as regions of the project's labels."""
        content = await body_of(request)
        tasks = content.get("tasks")
        if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
            raise RefusalError(400, "bad-json", "the body has no tasks", remedy="Label Studio sends a list of them.")
        match = matched(content.get("label_config"))
        at_a_time = asyncio.Semaphore(_AT_A_TIME)

        async def found(task: Mapping[str, Any]) -> dict[str, Any]:
            async with at_a_time:
                return await _predicted(service, images, task, match) | {"model_version": version}

        results = await asyncio.gather(*map(found, tasks))
        return answer({"results": results, "model_version": version})

    @router.post("/webhook")
    @router.post("/train")
    async def told(request: Request) -> Response:
        """Takes notice of what happened in a project, and does nothing."""
        await body_of(request)
        return answer({"status": "ignored: finemask does not train from webhooks; export, convert and train"}, 201)

    return router


async def _predicted(
    service: ImageService, images: "TaskImages", task: Mapping[str, Any], match: LabelMatch
) -> dict[str, Any]:
    keys = list(dict.fromkeys(label.image_key for label in match.of_class.values()))
    data = task.get("data")
    results: list[dict[str, Any]] = []
    for key in keys:
        place = data.get(key) if isinstance(data, dict) else None
        if not isinstance(place, str) or not place:
            raise _task_error(task, f"its data has no image under {key!r}")
        deadline = time.monotonic() + service.settings.timeout_s
        try:
            received = await images.get(place, deadline)
            answered = await service.find(received.content, received.name or "image", None, deadline)
        except RefusalError as refusal:
            if refusal.status in (429, 503):  # nothing is wrong with the task
                raise
            raise _task_error(task, str(refusal)) from refusal
        except DataError as error:
            raise _task_error(task, str(error)) from error
        labels = {name: label for name, label in match.of_class.items() if label.image_key == key}
        results += await service.in_pool(partial(regions_of, answered.instances, labels))
    scores = [region["score"] for region in results]
    # A task's score is what Label Studio sorts by: the mean of its regions', 0 where nothing was found.
    return {"result": results, "score": sum(scores) / len(scores) if scores else 0.0}


def _task_error(task: Mapping[str, Any], what: str) -> RefusalError:
    return RefusalError(422, "task-image", f"task {task.get('id', '?')}: {what}")


def _labels(match: LabelMatch) -> dict[str, Any]:
    return {
        "matched": {name: label.label for name, label in match.of_class.items()},
        "left_out": list(match.unlabelled),
        "unknown": list(match.unknown),
    }


class _Access(NamedTuple):
    authorization: str
    until: float  # of time.monotonic


class TaskImages:
    """The images of tasks, wherever Label Studio keeps them.

    Args:
        service: whose settings say where Label Studio is, and which folder it shares.
    """

    def __init__(self, service: ImageService) -> None:
        settings = service.settings
        self._service = service
        self._home = settings.label_studio_url.rstrip("/") if settings.label_studio_url else None
        self._files = None if settings.label_studio_files is None else settings.label_studio_files.resolve()
        self._access: _Access | None = None

    async def get(self, place: str, deadline: float) -> ReceivedImage:
        """The file of an image.

        Args:
            place: what a task's data say: a ``data:`` address, a path of Label Studio (``/data/upload/…``,
                ``/data/local-files/?d=…``), an http(s) address.
            deadline: of ``time.monotonic``.

        Raises:
            RefusalError: it is not fetched.
            DataError: it cannot be had.
        """
        if place.startswith("data:"):
            return ReceivedImage(_embedded(place), None)
        parts = urlsplit(place)
        if self._files is not None and parts.path.endswith(_LOCAL_FILES) and self._is_at_home(place):
            shared = _inside(self._files, parse_qs(parts.query).get("d", [""])[0])
            return ReceivedImage(await self._service.in_pool(lambda: self._read(shared)), shared.name)
        if self._is_at_home(place):
            if self._home is None:
                raise RefusalError(
                    403,
                    "addresses-not-allowed",
                    f"{place} is a path of Label Studio, and this server does not know where that is",
                    remedy=f"Start it with label_studio_url=http://HOST:PORT and {KEY_VARIABLE} in the environment.",
                )
            address = place if parts.scheme else f"{self._home}{place}"
            content = await self._service.in_pool(lambda: self._fetch(address, deadline))
            return ReceivedImage(content, plain_name(unquote(parts.path)))
        if parts.scheme not in ("http", "https"):
            raise RefusalError(
                422,
                "task-image",
                f"{place[:80]} is no address that can be fetched",
                remedy="Let Label Studio pre-sign the addresses of its cloud storage.",
            )
        if not self._service.settings.allow_urls:
            raise RefusalError(
                403,
                "addresses-not-allowed",
                f"{place[:80]} is not at Label Studio, and this server fetches no other addresses",
                remedy="Start it with allow_urls=true.",
            )
        return await self._service.fetch(place, deadline)

    def _is_at_home(self, place: str) -> bool:
        """Whether Label Studio itself has it: a path, or an address that begins as its own does."""
        if not urlsplit(place).scheme:
            return place.startswith("/") and not place.startswith("//")
        return self._home is not None and place.startswith(f"{self._home}/")

    def _read(self, path: Path) -> bytes:
        limit = self._service.settings.max_bytes
        try:
            size = path.stat().st_size
            content = path.read_bytes() if path.is_file() and size <= limit else None
        except OSError:
            raise DataError("there is no such file in the shared folder", where=path.name) from None
        if content is None:
            raise DataError(f"no file, or one of more than {limit / 2**20:g} MiB", where=path.name)
        return content

    def _fetch(self, address: str, deadline: float) -> bytes:
        assert self._home is not None
        known = KnownServer(self._home, self._authorization(deadline))
        left_s = max(0.001, deadline - time.monotonic())
        return fetch(address, FetchLimits(self._service.settings.max_bytes, total_s=left_s), known=known)

    def _authorization(self, deadline: float) -> str | None:
        """The header that Label Studio wants: of a legacy token, or of what a personal access token is changed for."""
        key = os.environ.get(KEY_VARIABLE, "").strip()
        if not key:
            return None
        if key.count(".") != 2:
            return f"Token {key}"
        if self._access is None or self._access.until < time.monotonic():
            request = UrlRequest(
                f"{self._home}/api/token/refresh",
                json.dumps({"refresh": key}).encode(),
                {"Content-Type": "application/json", "User-Agent": "finemask"},
            )
            try:
                with urlopen(request, timeout=max(0.001, deadline - time.monotonic())) as response:
                    access = json.load(response)["access"]
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise DataError(
                    f"Label Studio does not take the token in {KEY_VARIABLE} ({error})",
                    where=self._home,
                    remedy="Make a new one under Account & Settings, Personal Access Token",
                ) from error
            self._access = _Access(f"Bearer {access}", time.monotonic() + _ACCESS_S)
        return self._access.authorization


def _embedded(place: str) -> bytes:
    head, comma, text = place.partition(",")
    if not comma or not head.endswith(";base64"):
        raise DataError("a data: address that is not base64 is not read", where=place[:40])
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise DataError("its base64 is damaged", where=place[:40]) from None


def _inside(root: Path, name: str) -> Path:
    """A file below the shared folder.

    Raises:
        RefusalError: the name leads out of it, by itself or through a link.
    """
    try:
        path = (root / name).resolve()
    except (OSError, ValueError):  # a null byte, a circle of links
        path = root.parent
    if not name or not path.is_relative_to(root):
        raise RefusalError(403, "outside-the-folder", f"{name!r} leads out of label_studio_files")
    return path
