"""Good, huge, broken and slow requests to a server on loopback at once: is every answer right, and is it still there?

    python scripts/bench_serve.py model=MODEL images=FOLDER [at_once=1,2] [seconds=60] [clients=200]

For each value of ``at_once`` a server is started as ``finemask serve`` starts it; eight clients say how many answers it
gives a second. Then a crowd asks another one for ``seconds``: every answer to a good image is compared with what
``Predictor.predict`` finds, every refusal with the status it ought to have, and memory is read every second. In the end
SIGTERM comes while images wait: all of them have to be answered, and the exit code be 0.
"""

import http.client
import io
import json
import os
import random
import signal
import socket
import statistics
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import finemask

PATIENCE_S = 300
GOOD, BUSY = 200, {429, 503}  # 429 and 503 may be the answer to any image when many come


def main() -> int:
    """Runs both parts; 1 where anything is wrong."""
    words = dict(word.split("=", 1) for word in sys.argv[1:])
    folder, model = Path(words["images"]), words["model"]
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".png"))[:12]
    images = [path.read_bytes() for path in files]
    settings = [int(value) for value in words.get("at_once", "").split(",") if value]
    expected = expected_answers(model, images)
    rates = {}
    for at_once in settings:
        with Server(model, at_once) as server:
            rates[at_once] = good_rate(server, images)
            print(f"at_once={at_once}: {rates[at_once]:.2f} images a second from 8 clients, one image each at a time")
    if rates:
        print(f"side by side: × {rates[settings[-1]] / rates[settings[0]]:.2f} of one at a time")
    with Server(model, 1) as server:
        wrong = crowd(server, images, expected, float(words.get("seconds", 60)), int(words.get("clients", 200)))
        wrong += stop_while_busy(server, images, expected)
    for line in wrong[:20]:
        print("WRONG:", line)
    print("all is well" if not wrong else f"{len(wrong)} wrong")
    return int(bool(wrong))


class Server:
    """``finemask serve`` in a process of its own."""

    def __init__(self, model: str, at_once: int) -> None:
        words = [sys.executable, "-m", "finemask", "serve", f"model={model}", "port=0", f"at_once={at_once}"]
        words += ["queue_size=32", "max_mb=8", "max_megapixels=20", "timeout_s=120", "log=none", "max_connections=512"]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> "Server":
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.port = int(line.split("http://127.0.0.1:")[1].split()[0])
        until = time.monotonic() + PATIENCE_S
        while self.ask("GET", "/ready")[0] != GOOD:
            assert time.monotonic() < until, "the server does not become ready"
            time.sleep(0.1)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def ask(self, method: str, path: str, body: Any = None, kind: str = "image/jpeg") -> tuple[int, bytes]:
        """Status and body of the answer; status 0 where the connection broke."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.request(method, path, body, {"Content-Type": kind} if body is not None else {})
            response = connection.getresponse()
            return response.status, response.read()
        except OSError as error:
            return 0, repr(error).encode()
        finally:
            connection.close()

    def memory_mb(self) -> float:
        """What the process holds."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def expected_answers(model: str, images: list[bytes]) -> list[list[Any]]:
    """What the predictor finds by itself, in this process."""
    predictor = finemask.load(model, device="cpu")
    return [forms(predictor.predict(image).to_coco()) for image in images]


def forms(results: list[Any]) -> list[Any]:
    """What is compared: class, score, mask, to the digits that are sent."""
    return [(one["category_id"], round(one["score"], 6), one["segmentation"]["counts"]) for one in results]


def is_right(body: bytes, expected: list[Any]) -> bool:
    """Whether an answer says what the predictor finds."""
    return [
        (o["category_id"], o["score"], o["segmentation"]["counts"]) for o in json.loads(body)["instances"]
    ] == expected


def good_rate(server: Server, images: list[bytes], seconds: float = 20.0) -> float:
    """Answers a second to eight clients."""
    done, until = [], time.monotonic() + seconds

    def client(first: int) -> None:
        number = first
        while time.monotonic() < until:
            status, _ = server.ask("POST", "/predict?masks=rle", images[number % len(images)])
            if status == GOOD:
                done.append(time.monotonic())
            number += 1

    together([lambda n=n: client(n) for n in range(8)])
    return (len(done) - 1) / (max(done) - min(done))


def together(clients: list[Callable[[], None]]) -> None:
    """Runs them in threads, to the end."""
    threads = [threading.Thread(target=one) for one in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def crowd(server: Server, images: list[bytes], expected: list[list[Any]], seconds: float, clients: int) -> list[str]:
    """All kinds of requests at once; what was wrong."""
    wrong: list[str] = []
    statuses: Counter[tuple[str, int]] = Counter()
    latencies: list[float] = []
    until = time.monotonic() + seconds

    def good(random_: random.Random) -> int:
        number = random_.randrange(len(images))
        began = time.monotonic()
        status, body = server.ask("POST", "/predict?masks=rle", images[number])
        if status == GOOD:
            latencies.append(time.monotonic() - began)
            if not is_right(body, expected[number]):
                wrong.append(f"image {number} was answered otherwise than predict does")
        return status

    def slow(_: random.Random) -> int:
        with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as client:
            client.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90\r\n")
            client.sendall(b"Content-Type: image/png\r\n\r\n")
            for _ in range(3):
                time.sleep(1)
                client.sendall(b"\x89")
        return 0  # it goes without having sent everything

    def asked(path: str, body: Any, kind: str = "image/png") -> Callable[[random.Random], int]:
        return lambda _: server.ask("POST", path, body, kind)[0]

    noise = random.Random(0).randbytes(50_000)
    kinds: list[tuple[str, int, Callable[[random.Random], int], set[int]]] = [
        ("good", 60, good, {GOOD} | BUSY),
        ("over the limit of bytes", 5, asked("/predict", bytes(9 * 2**20)), {413} | BUSY),
        ("over the limit of pixels", 5, asked("/predict", png_that_claims(30_000, 30_000)), {413} | BUSY),
        ("no image", 5, asked("/predict", noise), {415} | BUSY),
        ("cut off", 5, asked("/predict", images[0][: len(images[0]) // 2], "image/jpeg"), {422} | BUSY),
        ("no form", 5, asked("/predict", noise, "multipart/form-data; boundary=x"), {400} | BUSY),
        ("bad parameter", 5, asked("/predict?threshold=7", images[0]), {422}),
        ("no route", 5, lambda _: server.ask("GET", "/../etc/passwd")[0], {404}),
        ("slow", 5, slow, {0}),
    ]

    def client(seed: int) -> None:
        random_ = random.Random(seed)
        while time.monotonic() < until:
            name, _, send, fine = random_.choices(kinds, [weight for _, weight, _, _ in kinds])[0]
            try:
                status = send(random_)
            except Exception as error:
                status = -1
                wrong.append(f"{name}: {error!r}")
            statuses[name, status] += 1
            if status not in fine:
                wrong.append(f"{name}: status {status}")
            if status in BUSY:
                time.sleep(random_.random())

    memory: list[float] = []

    def watch() -> None:
        while time.monotonic() < until:
            memory.append(server.memory_mb())
            time.sleep(1)

    together([watch, *(lambda n=n: client(n) for n in range(clients))])
    if server.process.poll() is not None:
        return [*wrong, f"the server ended with {server.process.returncode}"]
    for (name, status), count in sorted(statuses.items()):
        print(f"  {name:<26} {status:>4}  {count:>6}")
    third = max(1, len(memory) // 3)
    middle, last = statistics.median(memory[third : 2 * third]), statistics.median(memory[2 * third :])
    print(
        f"memory: {memory[0]:.0f} MiB at first, {max(memory):.0f} at most; medians of the second and last third ",
        end="",
    )
    print(f"{middle:.0f} and {last:.0f}")
    if last > 1.1 * middle:
        wrong.append("memory grows")
    latencies.sort()
    if latencies:
        shown = ", ".join(f"{latencies[int(share * (len(latencies) - 1))]:.2f}" for share in (0.5, 0.95, 1))
        print(f"good images: {len(latencies) / seconds:.2f} answers a second; latency {shown} s (median, 95 %, most)")
    held = [line for line in server.ask("GET", "/metrics")[1].decode().splitlines() if "buffered_bytes " in line]
    print(held[-1])
    return wrong


def stop_while_busy(server: Server, images: list[bytes], expected: list[list[Any]]) -> list[str]:
    """SIGTERM while images wait; what was lost."""
    answers: list[tuple[int, int, bytes]] = []

    def client(number: int) -> None:
        answers.append((number, *server.ask("POST", "/predict?masks=rle", images[number % len(images)])))

    threads = [threading.Thread(target=client, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until and b"finemask_queue_depth 1" not in server.ask("GET", "/metrics")[1]:
        time.sleep(0.02)  # until ten or more of them were received
    time.sleep(0.3)
    server.process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join()
    code = server.process.wait(PATIENCE_S)
    right = sum(status == GOOD and is_right(body, expected[number % len(images)]) for number, status, body in answers)
    print(f"SIGTERM with 16 images asked for: {right} answered, exit code {code}")
    return [] if right == len(answers) == 16 and code == 0 else [f"after SIGTERM: {right} of 16, exit code {code}"]


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG of few bytes and many pixels."""
    written = io.BytesIO(b"\x89PNG\r\n\x1a\n")
    written.seek(8)
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    for kind, content in ((b"IHDR", head), (b"IDAT", zlib.compress(bytes(1_000_000))), (b"IEND", b"")):
        written.write(struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content)))
    return written.getvalue()


if __name__ == "__main__":
    sys.exit(main())
