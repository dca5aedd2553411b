"""Label Studio's backend over HTTP, in the forms that it sends and reads; its masks against a decoder of their own."""

import base64
import http.server
import json
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from inference_data import SCORES
from pycocotools import mask as coco_mask
from serving_cases import BLUE, GREEN, RED, picture, serving

PICTURE = picture(red=RED, green=GREEN, blue=BLUE)
EMBEDDED = "data:image/png;base64," + base64.b64encode(PICTURE).decode()
BRUSH = '<BrushLabels name="mask" toName="img"><Label value="red fig"/><Label value="blue"/></BrushLabels>'
POLYGONS = (
    '<PolygonLabels name="poly" toName="img"><Label value="red fig"/><Label value="Green/Date "/></PolygonLabels>'
)
BOXES = '<RectangleLabels name="box" toName="img"><Label value="red fig"/><Label value="blue"/></RectangleLabels>'


def config(*controls: str) -> str:
    return f'<View><Image name="img" value="$picture"/>{"".join(controls)}</View>'


def asked(*places: str, label_config: str = config(POLYGONS), key: str = "picture") -> str:
    """What Label Studio sends to /predict."""
    tasks = [{"id": 7 + n, "data": {key: place}, "annotations": [], "meta": {}} for n, place in enumerate(places)]
    params = {"login": None, "password": None, "context": None}
    return json.dumps(
        {
            "tasks": tasks,
            "model_version": None,
            "project": "3.1700000000",
            "label_config": label_config,
            "params": params,
        }
    )


def post(server, path: str, body: str, **headers: str):
    return server.ask("POST", f"/label-studio{path}", body, {"Content-Type": "application/json"} | headers)


@pytest.fixture(scope="module")
def server():
    with serving(threshold=0.25, name="colours") as served:
        yield served


def regions(server, **changes) -> list[dict]:
    answered = post(server, "/predict", asked(EMBEDDED, **changes))
    assert answered.status == 200, answered.body
    (prediction,) = answered.json["results"]
    assert prediction["model_version"] == answered.json["model_version"] == "colours"
    return prediction["result"]


def filled(box) -> np.ndarray:
    x0, y0, x1, y1 = box
    mask = np.zeros((40, 60), bool)
    mask[y0:y1, x0:x1] = True
    return mask


def unpacked(data: list[int]) -> np.ndarray:
    """The bytes of a brush's picture, read bit by bit as its format says: runs, and words one by one."""
    bits, at = "".join(f"{byte:08b}" for byte in data), 0

    def read(count: int) -> int:
        nonlocal at
        at += count
        return int(bits[at - count : at], 2)

    total, word = read(32), read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    out: list[int] = []
    while len(out) < total:
        repeated = read(1)
        count = read(sizes[read(2)]) + 1
        out += [read(word)] * count if repeated else [read(word) for _ in range(count)]
    assert len(bits) - at < 8
    return np.array(out, np.uint8)


def test_it_is_up(server) -> None:
    for path in ("", "/", "/health"):
        answered = server.ask("GET", f"/label-studio{path}")
        assert (answered.status, answered.json["status"]) == (200, "UP")
    assert server.ask("GET", "/label-studio/versions").json == {"versions": ["colours"]}


def test_setup_says_which_labels_match(server) -> None:
    body = {
        "project": "3.17",
        "schema": config(BRUSH, '<PolygonLabels name="p" toName="img"><Label value="kiwi"/></PolygonLabels>'),
    }
    answered = post(server, "/setup", json.dumps(body | {"hostname": "http://localhost:8080", "access_token": "x"}))
    assert answered.json["model_version"] == "colours"
    assert answered.json["labels"] == {
        "matched": {"red fig": "red fig", "blue": "blue"},
        "left_out": ["green/date"],
        "unknown": ["kiwi"],
    }
    assert post(server, "/setup", json.dumps({"project": "3", "schema": ""})).json == {"model_version": "colours"}


def test_polygons_are_in_percent_and_labels_are_the_projects(server) -> None:
    found = regions(server)
    assert [(region["value"]["polygonlabels"], region["score"]) for region in found] == [
        (["red fig"], pytest.approx(SCORES[1])),
        (["Green/Date "], pytest.approx(SCORES[2])),  # compared without case and spaces, given as the project has it
    ]
    for region, box in zip(found, (RED, GREEN), strict=True):
        assert {key: region[key] for key in ("type", "from_name", "to_name", "image_rotation")} == {
            "type": "polygonlabels",
            "from_name": "poly",
            "to_name": "img",
            "image_rotation": 0,
        }
        assert (region["original_width"], region["original_height"]) == (60, 40)
        points = np.array(region["value"]["points"]) * [0.6, 0.4]
        rle = coco_mask.merge(coco_mask.frPyObjects([points.ravel().tolist()], 40, 60))
        assert np.array_equal(coco_mask.decode(rle).astype(bool), filled(box))
    assert len({region["id"] for region in found}) == 2


def test_brush_masks_are_those_of_the_objects(server) -> None:
    found = regions(server, label_config=config(BOXES, BRUSH))  # masks are taken before boxes
    assert [region["value"]["brushlabels"] for region in found] == [["red fig"], ["blue"]]
    masks = server.predictor.predict(PICTURE, threshold=0.25).masks[[0, 2]]
    for region, mask in zip(found, masks, strict=True):
        assert (region["type"], region["value"]["format"]) == ("brushlabels", "rle")
        pixels = unpacked(region["value"]["rle"]).reshape(40, 60, 4)
        assert np.array_equal(pixels, np.repeat(mask[..., None] * np.uint8(255), 4, axis=2))
    assert np.array_equal(masks[0], filled(RED))


def test_boxes_are_in_percent(server) -> None:
    found = regions(server, label_config=config(BOXES))
    for region, box in zip(found, (RED, BLUE), strict=True):
        value = region["value"]
        x0, y0 = value["x"] * 0.6, value["y"] * 0.4
        assert (x0, y0, x0 + value["width"] * 0.6, y0 + value["height"] * 0.4) == pytest.approx(box)
        assert value["rotation"] == 0


def test_a_label_may_say_which_classes_it_stands_for(server) -> None:
    any_fruit = (
        '<PolygonLabels name="p" toName="img"><Label value="fruit" predicted_values="red fig, blue"/></PolygonLabels>'
    )
    found = regions(server, label_config=config(any_fruit))
    assert [region["value"]["polygonlabels"] for region in found] == [["fruit"], ["fruit"]]


def test_a_tasks_score_is_the_mean_and_tasks_stay_in_order(server) -> None:
    empty = "data:image/png;base64," + base64.b64encode(picture(red=(0, 0, 0, 0))).decode()
    answered = post(server, "/predict", asked(EMBEDDED, empty, EMBEDDED)).json["results"]
    assert [len(one["result"]) for one in answered] == [2, 0, 2]
    assert [one["score"] for one in answered] == pytest.approx([0.75, 0.0, 0.75])


def test_nothing_trains(server) -> None:
    for path in ("/webhook", "/train"):
        answered = post(server, path, json.dumps({"action": "ANNOTATION_CREATED", "project": {"id": 1}}))
        assert answered.status == 201
        assert "does not train" in answered.json["status"]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ("[]", 400, "not a JSON object"),
        ("{", 400, "not JSON"),
        ('{"label_config": "<View/>"}', 400, "no tasks"),
        ('{"tasks": []}', 400, "no label_config"),
        (asked(EMBEDDED, label_config="<View"), 422, "broken XML"),
        (asked(EMBEDDED, label_config='<!DOCTYPE x [<!ENTITY a "b">]><View>&a;</View>'), 422, "document type"),
        (asked(EMBEDDED, label_config=config()), 422, "it has no BrushLabels, PolygonLabels or RectangleLabels"),
        (asked(EMBEDDED, label_config=config(BRUSH.replace("red fig", "kiwi").replace("blue", "pear"))), 422,
         r"no label for any class of the model: its labels are kiwi, pear; the model finds red fig, green/date, blue"),
        (asked(EMBEDDED, key="other"), 422, "task 7: its data has no image under 'picture'"),
        (asked(EMBEDDED, "data:image/png;base64,AAAA"), 422, "task 8: this is not an image"),
        (asked("data:image/png,x"), 422, "not base64"),
        (asked("/data/upload/1/x.png"), 422, "task 7: /data/upload/1/x.png is a path of.*label_studio_url"),
        (asked("https://example.org/x.png"), 422, "fetches no other addresses.*allow_urls=true"),
        (asked("s3://bucket/x.png"), 422, "pre-sign"),
        (asked("file:///etc/passwd"), 422, "no address that can be fetched"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_said(server, body, status, said) -> None:
    import re

    answered = post(server, "/predict", body)
    assert answered.status == status
    assert re.search(said, answered.json["error"]["message"])


@contextmanager
def label_studio(key: str):
    """A Label Studio that gives images to whoever shows the key, and sends some of them elsewhere."""
    asked_for: list[tuple[str, str | None]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked_for.append((self.path, self.headers.get("Authorization")))
            away = self.path == "/data/away.png"
            ok = self.headers.get("Authorization") == key
            self.send_response(302 if away else 200 if ok else 401)
            if away:
                self.send_header("Location", f"http://localhost:{self.server.server_port}/data/upload/x.png")
            content = PICTURE if ok and not away else b""
            self.send_header("Content-Type", "image/png")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_POST(self) -> None:
            refresh = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["refresh"]
            asked_for.append((self.path, refresh))
            content = json.dumps({"access": "short-lived"}).encode()
            self.send_response(200 if refresh == "a.b.c" else 401)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Nothing is printed."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked_for
    finally:
        server.shutdown()
        server.server_close()


def test_images_of_label_studio_are_fetched_with_its_token(monkeypatch) -> None:
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "legacy")
    with label_studio("Token legacy") as (home, seen), serving(label_studio_url=f"{home}/", threshold=0.25) as server:
        answered = post(server, "/predict", asked("/data/upload/1/x.png", f"{home}/data/upload/2/y.png"))
        assert [len(one["result"]) for one in answered.json["results"]] == [2, 2]
        away = post(server, "/predict", asked("/data/away.png"))
        assert away.status == 422
        assert "private network" in away.json["error"]["message"]  # another place is a stranger's, without the token
    assert sorted(seen)[-2:] == [("/data/upload/1/x.png", "Token legacy"), ("/data/upload/2/y.png", "Token legacy")]
    assert len(seen) == 3


def test_a_personal_access_token_is_changed_for_a_short_lived_one_once(monkeypatch) -> None:
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "a.b.c")
    with label_studio("Bearer short-lived") as (home, seen), serving(label_studio_url=home) as server:
        for _ in range(2):
            assert post(server, "/predict", asked("/data/upload/1/x.png")).status == 200
        assert [path for path, _ in seen] == ["/api/token/refresh", *["/data/upload/1/x.png"] * 2]
        monkeypatch.setenv("LABEL_STUDIO_API_KEY", "d.e.f")
    with label_studio("Bearer short-lived") as (home, _), serving(label_studio_url=home) as server:
        refused = post(server, "/predict", asked("/data/upload/1/x.png"))
        assert refused.status == 422
        assert "does not take the token in LABEL_STUDIO_API_KEY" in refused.json["error"]["message"]


def test_local_files_come_from_the_shared_folder_and_from_nowhere_else(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    (shared / "day").mkdir(parents=True)
    (shared / "day" / "x.png").write_bytes(PICTURE)
    (tmp_path / "secret.png").write_bytes(PICTURE)
    (shared / "link.png").symlink_to(tmp_path / "secret.png")
    with serving(label_studio_files=shared, threshold=0.25) as server:
        answered = post(server, "/predict", asked("/data/local-files/?d=day/x.png"))
        assert len(answered.json["results"][0]["result"]) == 2
        for name in ("../secret.png", "link.png", str(tmp_path / "secret.png"), "", "day/../../secret.png", "%00"):
            refused = post(server, "/predict", asked(f"/data/local-files/?d={name}"))
            assert refused.status == 422
            assert "leads out of label_studio_files" in refused.json["error"]["message"]
        assert "no such file" in post(server, "/predict", asked("/data/local-files/?d=no.png")).json["error"]["message"]


def test_the_servers_token_is_asked_for_as_a_password(tmp_path: Path) -> None:
    with serving(token="secret") as server:
        basic = "Basic " + base64.b64encode(b"label-studio:secret").decode()
        assert post(server, "/predict", asked(EMBEDDED)).status == 401
        assert post(server, "/predict", asked(EMBEDDED), Authorization=basic).status == 200
        assert server.ask("GET", "/label-studio/health", None, {"Authorization": basic}).status == 200


def test_an_independent_decoder_reads_long_runs() -> None:
    converter = pytest.importorskip("label_studio_sdk.converter.brush")
    from finemask.serving.labelling.labelling_regions import brush_rle

    rng = np.random.default_rng(0)
    for mask in (np.zeros((300, 400), bool), np.ones((300, 400), bool), rng.random((37, 53)) > 0.5):
        data = list(brush_rle(mask))
        assert np.array_equal(unpacked(data), np.repeat(mask.ravel() * np.uint8(255), 4))
        assert np.array_equal(converter.decode_rle(data), unpacked(data))
