"""What the server refuses of images and bodies: each limit with its status, and nothing decoded before."""

import gzip
import io
import struct
import threading
import time
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
from inference_data import ColourModel, colour_header
from PIL import Image
from serving_cases import Serving, form, picture, png_of, serving

from finemask.inference.predictor import Predictor
from finemask.ops.images.tiff import tiff_pages
from finemask.serving.received_image import plain_name


@pytest.fixture(scope="module")
def server() -> Iterator[Serving]:
    with serving(max_bytes=100_000, max_pixels=20_000) as made:
        yield made


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_that_claims(width: int, height: int) -> bytes:
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = png_chunk(b"IDAT", zlib.compress(b"\0" * 50_000))
    return b"\x89PNG\r\n\x1a\n" + head + pixels + png_chunk(b"IEND", b"")


def tiff_that_claims(width: int, height: int, channels: int = 1, tile: int = 0) -> bytes:
    tags = [(256, width), (257, height), (258, 8), (259, 8), (262, 1), (273, 8), (277, channels), (279, 4)]
    tags += [(322, tile), (323, tile), (324, 8), (325, 4)] if tile else []
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 12) + b"\0" * 4 + struct.pack("<H", len(tags)) + entries + b"\0\0\0\0"


@pytest.mark.parametrize(
    "bomb",
    [
        png_that_claims(60_000, 60_000),
        png_that_claims(9_000, 9_000),
        tiff_that_claims(50_000, 50_000),
        tiff_that_claims(100, 100, channels=60_000),
        tiff_that_claims(100, 100, tile=60_000),
        png_of(np.zeros((1, 20_001, 3), dtype=np.uint8)),
    ],
    ids=["png over Pillow's limit", "png", "tiff", "tiff of many channels", "tiff of large tiles", "a pixel too many"],
)
def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(server: Serving, bomb: bytes) -> None:
    answer = server.predict(bomb)
    assert (answer.status, answer.code) == (413, "image-too-large")


def test_an_image_of_just_as_many_pixels_as_may_be_is_taken(server: Serving) -> None:
    assert server.predict(png_of(np.zeros((100, 200, 3), dtype=np.uint8))).status == 200


def test_a_tiff_file_whose_pages_name_the_same_numbers_again_and_again_takes_no_time_and_memory() -> None:
    numbers, pages = 20_000, 1500
    listed = b"\1" * numbers
    content = b"II*\0" + struct.pack("<I", 8 + numbers) + listed
    for _ in range(pages):
        entry = struct.pack("<HHII", 273, 1, numbers, 8)
        content += struct.pack("<H", 1) + entry + struct.pack("<I", len(content) + 18)
    assert len(content) < 50_000
    found = tiff_pages(content)
    assert sum(len(values) for page in found for values in page.tags.values()) <= len(content)


def test_a_jpeg_that_goes_over_its_pixels_without_end_is_refused(server: Serving) -> None:
    written = io.BytesIO()
    Image.new("RGB", (64, 64)).save(written, "JPEG", progressive=True)
    whole = written.getvalue()
    assert server.predict(whole).status == 200
    scan = whole[whole.rindex(b"\xff\xda") : -2]
    answer = server.predict(whole[:-2] + scan * 200 + whole[-2:])
    assert (answer.status, answer.code) == (422, "unreadable-image")


@pytest.mark.parametrize(
    "content",
    [
        b"no image at all",
        b"\x80\x04\x95\x1a\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x02id\x94\x85\x94R.",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(/etc/passwd) (r) file\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        gzip.compress(b"\0" * 10_000_000),
        b"PK\x03\x04" + b"\0" * 100,
        b"\x00",
    ],
    ids=["text", "pickle", "postscript", "svg", "gzip", "zip or torch", "a byte"],
)
def test_what_is_no_image_is_refused(server: Serving, content: bytes) -> None:
    for answer in (server.predict(content), server.ask("POST", "/predict", *form(content, filename="a.png"))):
        assert (answer.status, answer.code) == (415, "not-an-image")


def test_a_damaged_image_is_refused_with_the_reason(server: Serving) -> None:
    whole = png_of(np.random.default_rng(0).integers(0, 255, (60, 60, 3)).astype(np.uint8))
    answer = server.predict(whole[: len(whole) // 2])
    assert (answer.status, answer.code) == (422, "unreadable-image")
    assert "encoded" not in answer.json["error"]["message"]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/xml", ""])
def test_another_content_type_is_refused(server: Serving, kind: str) -> None:
    answer = server.ask("POST", "/predict", picture(), {"Content-Type": kind} if kind else {})
    assert (answer.status, answer.code) == (415, "unsupported-content-type")


def test_a_body_over_the_limit_is_refused_by_its_stated_length_and_by_what_comes(server: Serving) -> None:
    large = b"\0" * 100_001
    assert (server.predict(large).status, server.predict(large).code) == (413, "body-too-large")
    pieces = server.ask("POST", "/predict", iter([large[:50_000]] * 3), {"Content-Type": "image/png"})
    assert (pieces.status, pieces.code) == (413, "body-too-large")
    for connection in ("close", "keep-alive"):  # this client reads nothing before it has sent everything
        very_large = server.predict(b"\0" * 9_000_000, Connection=connection)
        assert (very_large.status, very_large.code) == (413, "body-too-large")


@pytest.mark.parametrize(
    ("body", "kind", "status", "code"),
    [
        (b"", "image/png", 400, "no-image"),
        (b"nonsense", "multipart/form-data; boundary=limit", 400, "bad-form"),
        (b"nonsense", "multipart/form-data", 400, "bad-form"),
        (form(b"")[0], "multipart/form-data; boundary=limit", 400, "no-image"),
        (form(picture(), name="file")[0], "multipart/form-data; boundary=limit", 400, "no-image"),
        (b'{"url": "http://127.0.0.1/a.png"}', "application/json", 403, "addresses-not-allowed"),
    ],
)
def test_a_body_without_an_image_is_refused(server: Serving, body: bytes, kind: str, status: int, code: str) -> None:
    answer = server.ask("POST", "/predict", body, {"Content-Type": kind})
    assert (answer.status, answer.code) == (status, code)


@pytest.mark.parametrize(
    "path", ["/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/assets/..%2f..%2fetc%2fpasswd", "/.git/config"]
)
def test_paths_lead_nowhere(server: Serving, path: str) -> None:
    answer = server.ask("GET", path)
    assert (answer.status, answer.code) == (404, "not-found")
    assert b"root:" not in answer.body


@pytest.mark.parametrize(
    "body",
    [
        b"".join(form(b"a", name=str(number))[0].removesuffix(b"--limit--\r\n") for number in range(500)),
        b"--limit\r\n" + b"a: b\r\n" * 10_000 + b"\r\n--limit--\r\n",
    ],
    ids=["parts", "headers"],
)
def test_a_form_of_very_many_pieces_is_refused_at_once(server: Serving, body: bytes) -> None:
    answer = server.ask("POST", "/predict", body, {"Content-Type": "multipart/form-data; boundary=limit"})
    assert (answer.status, answer.code) == (400, "bad-form")


def test_a_name_is_never_a_path(server: Serving) -> None:
    for sent, shown in (("../../etc/passwd", "passwd"), ("C:\\temp\\a.png", "a.png"), ("..", None)):
        assert server.ask("POST", "/predict", *form(picture(), filename=sent)).json["image"]["name"] == shown
    assert plain_name("a\x1b[31mb\n.png") == "a[31mb.png"
    assert len(plain_name("a" * 5000) or "") == 200


class HeldModel(ColourModel):
    """A model that waits until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.go.set()
        self.images = 0

    def forward(self, images):  # type: ignore[no-untyped-def]
        self.images += 1
        assert self.go.wait(60)
        return super().forward(images)


def wait_until(met, seconds: float = 30.0) -> None:  # type: ignore[no-untyped-def]
    until = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < until
        time.sleep(0.005)


def in_background(server: Serving, answers: list[int], count: int) -> list[threading.Thread]:
    threads = [
        threading.Thread(target=lambda: answers.append(server.predict(picture()).status), daemon=True)
        for _ in range(count)
    ]
    for thread in threads:
        thread.start()
    return threads


def test_a_full_queue_refuses_at_once_and_says_when_to_come_back() -> None:
    model, answers = HeldModel(), []
    with serving(Predictor(model, colour_header()), queue_size=3) as server:
        model.go.clear()
        threads = in_background(server, answers, 3)
        wait_until(lambda: server.service._inside == 3)
        refused = server.predict(picture())
        assert (refused.status, refused.code) == (429, "queue-full")
        assert int(refused.headers["retry-after"]) >= 1
        assert server.predict(picture(), "?threshold=7").status == 422  # however busy it is
        assert b"finemask_queue_depth 3.0" in server.ask("GET", "/metrics").body
        model.go.set()
        for thread in threads:
            thread.join()
        assert answers == [200] * 3
        assert server.predict(picture()).status == 200
        assert server.service._inside == 0


def test_no_answer_in_time_is_said_and_the_image_is_not_predicted_for_nobody() -> None:
    model = HeldModel()
    with serving(Predictor(model, colour_header()), timeout_s=0.5) as server:
        model.go.clear()
        threads = in_background(server, answers := [], 2)
        for thread in threads:
            thread.join()
        assert answers == [503, 503]
        seen = model.images
        model.go.set()
        answer = server.predict(picture())
        assert answer.status == 200
        assert model.images == seen + 1  # the second had left the queue


def test_bodies_together_are_limited() -> None:
    with serving(buffer_bytes=100_000, max_bytes=90_000) as server, server.service.buffered() as hold:
        hold(60_000)
        answer = server.predict(b"\0" * 50_000)
        assert (answer.status, answer.code) == (503, "too-many-bytes")
        assert "retry-after" in answer.headers
        assert server.predict(picture()).status == 200
    assert server.service._buffered == 0


def test_a_model_that_fails_is_a_defect_of_ours_and_the_next_image_is_answered(caplog) -> None:  # type: ignore[no-untyped-def]
    class Failing(ColourModel):
        def forward(self, images):  # type: ignore[no-untyped-def]
            if (images[0] == 77).all():
                raise RuntimeError("imagined")
            return super().forward(images)

    with serving(Predictor(Failing(), colour_header())) as server:
        answer = server.predict(png_of(np.full((9, 9, 3), 77, dtype=np.uint8)))
        assert (answer.status, answer.code) == (500, "defect")
        assert b"imagined" not in answer.body
        assert server.predict(picture()).status == 200
    assert "imagined" in caplog.text
