"""What a server is told besides its model."""

from dataclasses import dataclass
from pathlib import Path

from finemask.inference.cutting import Tile
from finemask.inference.score_limits import Threshold


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Limits and doors of a server; ``configs/serve.yaml`` says what each is for.

    Args:
        name: of the model, as ``/info`` tells it.
        threshold: score below which nothing is reported where a request does not say.
        tile: as of ``Predictor.predict``.
        overlap: as of ``Predictor.predict``.
        token: what clients must show; None: nothing.
        allowed_hosts: names by which the server may be called, besides addresses and this machine's own.
        cors_origins: pages of other origins that may ask, ``https://example.org`` each.
        allow_urls: whether images are fetched from addresses that clients send.
        max_bytes: of a request's body, and of an image that is fetched.
        max_pixels: of an image.
        buffer_bytes: of all bodies that are held at a time.
        queue_size: images that may wait for the model.
        at_once: images that are in the model at a time, each by itself, sharing the threads of the CPU.
        label_studio_url: where Label Studio is, for images that it keeps; None: there is none.
        label_studio_files: folder of its local files, as this machine has it; None: they come over HTTP.
        timeout_s: in which an image is to be answered, from the first byte of its request to the answer.
    """

    name: str = "model"
    threshold: Threshold = "auto"
    tile: Tile = None
    overlap: float = 0.2
    token: str | None = None
    allowed_hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    allow_urls: bool = False
    max_bytes: int = 32 * 2**20
    max_pixels: int = 50_000_000
    buffer_bytes: int = 512 * 2**20
    queue_size: int = 64
    at_once: int = 1
    timeout_s: float = 60.0
    label_studio_url: str | None = None
    label_studio_files: Path | None = None
