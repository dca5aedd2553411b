"""Good, broken, huge and rude requests at once, for a short while; ``scripts/bench_serve.py`` is the long version."""

import random
import socket
from concurrent.futures import ThreadPoolExecutor

from serving_cases import Serving, form, picture, serving

CLIENTS, REQUESTS = 24, 15


def leave_in_the_middle(server: Serving) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as client:
        client.sendall(
            b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 9\r\n\r\n1"
        )


def misanswered(server: Serving, seed: int) -> list[str]:
    """What was wrong with the answers to one client."""
    chance, wrong = random.Random(seed), []
    for _ in range(REQUESTS):
        x = chance.randrange(40)
        kind = chance.choice(["good", "good", "good", "form", "noise", "cut off", "huge", "parameter", "route", "gone"])
        image = picture(red=(x, 5, x + 10, 25))
        if kind == "gone":
            leave_in_the_middle(server)
            continue
        if kind in ("good", "form"):
            answer = server.ask("POST", "/predict", *form(image)) if kind == "form" else server.predict(image)
            right = answer.status == 200 and [one["box"] for one in answer.json["instances"]] == [[x, 5, x + 10, 25]]
            if not (right or answer.status == 429):
                wrong.append(f"{kind}: {answer}")
            continue
        body, query, expected = {
            "noise": (chance.randbytes(999), "", 415),
            "cut off": (image[:-30], "", 422),
            "huge": (bytes(300_000), "", 413),
            "parameter": (image, "?threshold=-1", 422),
            "route": (image, "/../a", 404),
        }[kind]
        answer = server.predict(body, query)
        if answer.status not in (expected, 429):
            wrong.append(f"{kind}: {answer}")
    return wrong


def test_a_crowd_gets_right_answers_and_fitting_refusals_and_leaves_nothing_behind() -> None:
    with serving(max_bytes=200_000, queue_size=16, at_once=2) as server:
        with ThreadPoolExecutor(CLIENTS) as pool:
            wrong = [
                line for lines in pool.map(lambda seed: misanswered(server, seed), range(CLIENTS)) for line in lines
            ]
        assert wrong == []
        assert server.predict(picture()).status == 200
        assert (server.service._inside, server.service._buffered) == (0, 0)
        assert b'status="500"' not in server.ask("GET", "/metrics").body
