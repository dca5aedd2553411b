"""What ``/metrics`` tells, in the form of Prometheus."""

from typing import TYPE_CHECKING

from finemask.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable

_DRIFT = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class ServerMetrics:
    """Counters of one server; several in a process do not share them.

    Attributes:
        requests: answered, by route, method and status.
        request_seconds: from the head of a request to the end of its answer, by route.
        refusals: by code.
        model_seconds: of an image in the model.
        queue_seconds: that an image waited for the model.
        drift: of each image that was answered, see ``finemask.inference.drift``.
    """

    def __init__(self) -> None:
        try:
            from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
        except ImportError as error:
            raise MissingExtraError("prometheus-client", "serve", needed_for="the server") from error
        self._registry = own = CollectorRegistry()
        ProcessCollector(registry=own)
        self.requests = Counter("finemask_requests", "Requests answered.", ("route", "method", "status"), registry=own)
        self.request_seconds = Histogram(
            "finemask_request_seconds", "From the head of a request to its answer.", ("route",), registry=own,
            buckets=_SECONDS,
        )  # fmt: skip
        self.refusals = Counter("finemask_refusals", "Requests refused, by reason.", ("code",), registry=own)
        self.model_seconds = Histogram(
            "finemask_model_seconds", "Of an image in the model.", registry=own, buckets=_SECONDS
        )
        self.queue_seconds = Histogram(
            "finemask_queue_seconds", "That an image waited for the model.", registry=own, buckets=_SECONDS
        )
        self.drift = Histogram(
            "finemask_drift", "How unlike the training images an image is; above 1 it is.", registry=own, buckets=_DRIFT
        )
        self._gauge = Gauge

    def watch(self, name: str, what: str, value: "Callable[[], float]") -> None:
        """Adds a number that is asked for whenever somebody looks: ``finemask_NAME``."""
        self._gauge(f"finemask_{name}", what, registry=self._registry).set_function(value)

    def text(self) -> tuple[bytes, str]:
        """Everything, and its content type."""
        from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

        return generate_latest(self._registry), CONTENT_TYPE_LATEST
