"""The application as a whole: what it says of itself, addresses, and every answer by its own description."""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from inference_data import CATEGORIES, ColourModel, colour_header
from serving_cases import BLUE, GREEN, RED, Serving, picture, serving

from finemask.errors import ConfigError
from finemask.inference.predictor import Predictor
from finemask.serving import image_service
from finemask.serving.application import build_application
from finemask.serving.server_settings import ServerSettings


@pytest.fixture(scope="module")
def server() -> Iterator[Serving]:
    with serving(allow_urls=True) as made:
        yield made


@pytest.fixture(scope="module")
def description(server: Serving) -> dict[str, Any]:
    return server.ask("GET", "/openapi.json").json


def misfits(value: Any, schema: dict[str, Any], whole: dict[str, Any], place: str = "") -> list[str]:
    """Where a value is not as a JSON schema says; of the words that the description uses."""
    if "$ref" in schema:
        return misfits(value, whole["components"]["schemas"][schema["$ref"].rpartition("/")[2]], whole, place)
    if "anyOf" in schema:
        each = [misfits(value, one, whole, place) for one in schema["anyOf"]]
        return [] if [] in each else [f"{place}: none of {len(each)}"]
    kinds = {
        "object": dict,
        "array": list,
        "string": str,
        "boolean": bool,
        "integer": int,
        "number": (int, float),
        "null": type(None),
    }
    if "type" in schema and not isinstance(value, kinds[schema["type"]]):
        return [f"{place}: {value!r} is no {schema['type']}"]
    found = []
    if isinstance(value, dict) and "properties" in schema:
        found += [f"{place}.{name}: undescribed" for name in value.keys() - schema["properties"].keys()]
        found += [f"{place}.{name}: missing" for name in set(schema.get("required", ())) - value.keys()]
        for name in value.keys() & schema["properties"].keys():
            found += misfits(value[name], schema["properties"][name], whole, f"{place}.{name}")
    if isinstance(value, dict) and isinstance(more := schema.get("additionalProperties"), dict):
        found += [one for name in value for one in misfits(value[name], more, whole, f"{place}.{name}")]
    if isinstance(value, list):
        inner = schema.get("prefixItems") or [schema.get("items", {})] * len(value)
        found += [f"{place}: {len(value)} of {len(inner)}"] if len(inner) != len(value) else []
        for number, (one, of) in enumerate(zip(value, inner, strict=False)):
            found += misfits(one, of, whole, f"{place}[{number}]")
    return found


def described(description: dict[str, Any], method: str, path: str, status: int) -> dict[str, Any]:
    answer = description["paths"][path][method]["responses"][str(status)]
    return answer["content"]["application/json"]["schema"]


@pytest.mark.parametrize("query", ["", "?masks=rle", "?masks=none", "?threshold=0.1", "?threshold=1"])
def test_an_answer_is_as_its_description_says(server: Serving, description: dict[str, Any], query: str) -> None:
    said = server.predict(picture(red=RED, green=GREEN, blue=BLUE), query).json
    assert misfits(said, described(description, "post", "/predict", 200), description) == []
    assert misfits(said | {"more": 1}, described(description, "post", "/predict", 200), description) != []


@pytest.mark.parametrize("path", ["/health", "/ready", "/info"])
def test_so_is_what_the_server_says_of_itself(server: Serving, description: dict[str, Any], path: str) -> None:
    assert misfits(server.ask("GET", path).json, described(description, "get", path, 200), description) == []


def test_so_are_refusals_and_every_status_is_described(server: Serving, description: dict[str, Any]) -> None:
    for answer in (
        server.predict(b"none"),
        server.predict(b""),
        server.predict(picture(), "?threshold=5"),
        server.predict(picture(), Origin="https://evil.example"),
    ):
        schema = described(description, "post", "/predict", answer.status)
        assert misfits(answer.json, schema, description) == []
    assert re.fullmatch(r"3\.1\.\d", description["openapi"])
    assert set(description["paths"]) >= {"/predict", "/health", "/ready", "/info", "/metrics"}
    bodies = description["paths"]["/predict"]["post"]["requestBody"]["content"]
    assert set(bodies) == {"image/*", "application/octet-stream", "multipart/form-data", "application/json"}
    names = re.findall(r'"\$ref": "#/components/schemas/(\w+)"', json.dumps(description))
    assert set(names) <= description["components"]["schemas"].keys()


def test_info_is_of_the_model(server: Serving) -> None:
    said = server.ask("GET", "/info").json
    assert [(one["id"], one["name"]) for one in said["categories"]] == [(one.id, one.name) for one in CATEGORIES]
    assert all(re.fullmatch("#[0-9a-f]{6}", one["colour"]) for one in said["categories"])
    assert said["thresholds"] == {"global": 0.5, "per_class": {}}
    assert said["limits"]["urls"] is True


def test_thresholds_by_class_are_told_as_they_are_applied() -> None:
    header = colour_header(thresholds={"global": 0.5, "per_class": {"blue": 0.2}})
    with serving(Predictor(ColourModel(), header)) as server:
        said = server.predict(picture(red=RED, blue=BLUE)).json
        assert said["threshold"] == {"value": None, "per_class": {"red fig": 0.5, "green/date": 0.5, "blue": 0.2}}
        assert [one["category"] for one in said["instances"]] == ["red fig", "blue"]
        assert server.ask("GET", "/info").json["threshold"] == said["threshold"]


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:{port}/predict",
        "http://localhost:{port}/",
        "http://2130706433:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://169.254.169.254/latest/meta-data/",
        "http://10.0.0.1/a.png",
        "http://0/a.png",
    ],
)
def test_addresses_that_are_not_public_are_not_fetched(server: Serving, address: str) -> None:
    body = json.dumps({"url": address.format(port=server.port)}).encode()
    answer = server.ask("POST", "/predict", body, {"Content-Type": "application/json"})
    assert (answer.status, answer.code) == (422, "address-not-fetched")
    assert "private network" in answer.json["error"]["message"]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"url": 1}', b'{"url": "file:///etc/passwd"}', b'{"url": "ftp://a/b"}', b"[" * 50_000]
)
def test_a_body_without_an_address_of_the_web_is_refused(server: Serving, body: bytes) -> None:
    answer = server.ask("POST", "/predict", body, {"Content-Type": "application/json"})
    assert (answer.status, answer.code) == (400, "bad-json")


def test_what_a_public_address_holds_is_predicted(server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_service, "fetch", lambda address, limits: picture())
    body = json.dumps({"url": "https://images.example/a%20photo.png?size=1"}).encode()
    said = server.ask("POST", "/predict", body, {"Content-Type": "application/json"}).json
    assert said["image"]["name"] == "a photo.png"
    assert len(said["instances"]) == 1


def test_a_threshold_that_the_model_does_not_hold_is_refused_before_anything_is_served() -> None:
    with pytest.raises(ConfigError, match="recall_90"):
        build_application(Predictor(ColourModel(), colour_header()), ServerSettings(threshold="recall_90"))


def test_an_image_is_answered_the_same_whatever_else_is_asked(server: Serving) -> None:
    shapes = [{"red": (x, 2, x + 9, 20)} for x in range(30)]
    alone = [server.predict(picture(**one)).json["instances"] for one in shapes]
    with serving(at_once=3) as other, ThreadPoolExecutor(10) as pool:
        together = list(pool.map(lambda one: other.predict(picture(**one)).json["instances"], shapes))
    assert together == alone
    assert len({json.dumps(one) for one in alone}) == 30
