"""The demo in a headless browser, on a server with a model that finds rectangles of red, green and blue."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import CONTRASTS, Tab
from inference_data import ColourModel, colour_header, rectangles
from PIL import Image
from serving_cases import Serving, serving

from finemask.inference.predictor import Predictor
from finemask.ops.colours import colours

RED, GREEN, BLUE = (20, 30, 120, 150), (180, 40, 280, 170), (150, 200, 230, 220)  # scores 0.9, 0.6 and 0.3
HEIGHT, WIDTH = 240, 320
OWN = {"global": 0.5, "per_class": {"green/date": 0.7}}  # of the model: green, 0.6, is below its own


@pytest.fixture(scope="module")
def server() -> Iterator[Serving]:
    predictor = Predictor(ColourModel(), colour_header(thresholds=OWN))
    with serving(predictor, name="fruit", max_bytes=400_000) as made:
        yield made


@pytest.fixture
def page(server: Serving, tab: Tab) -> Tab:
    tab.prefer("light")
    opened(tab, server)
    tab.value("localStorage.clear()")
    return tab


def opened(tab: Tab, server: Serving, width: int = 1440, height: int = 900) -> None:
    tab.open(f"{server.address}/", width, height, phone=width < 500)
    tab.until("document.querySelector('#controls')?.hidden === false")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    return saved(tmp_path / "fruit.png")


def saved(path: Path, **options) -> Path:
    Image.fromarray(rectangles(HEIGHT, WIDTH, red=RED, green=GREEN, blue=BLUE)).save(path, **options)
    return path


def text(tab: Tab, selector: str) -> str:
    return tab.value(f"document.querySelector({selector!r}).textContent")


def is_seen(tab: Tab, selector: str) -> bool:
    return tab.value(f"document.querySelector({selector!r}).checkVisibility()")


def look_at(tab: Tab, *paths: Path) -> None:
    """Gives pictures to the page and waits until all are answered or refused."""
    before = tab.value("document.querySelectorAll('#strip button').length")
    tab.choose("#file", *paths)
    tab.until(f"document.querySelectorAll('#strip .found, #strip .refused').length === {before + len(paths)}")
    tab.until("document.querySelector('#busy').hidden")
    painted(tab)


def painted(tab: Tab) -> None:
    """Waits until what was changed is drawn."""
    tab.value("new Promise(resolve => requestAnimationFrame(() => requestAnimationFrame(resolve)))")


def move(tab: Tab, selector: str, value: float) -> None:
    tab.value(
        f"(() => {{ const slider = document.querySelector({selector!r}); slider.value = {value};"
        "slider.dispatchEvent(new Event('input')); })()"
    )


def shown(tab: Tab) -> list[str]:
    return tab.value(
        "[...document.querySelectorAll('#objects tbody tr:not([hidden])')].map(row => row.cells[0].textContent)"
    )


def asked(tab: Tab, what: str = "/predict") -> list[str]:
    return [address for address in tab.requests if address.partition("?")[0].endswith(what)]


def colour_at(tab: Tab, x: float, y: float) -> np.ndarray:
    """What the stage shows at a point of the picture, px."""
    return np.array(
        tab.value(
            "(() => { const canvas = document.querySelector('#stage canvas'), { width, height } = canvas;"
            f"const scale = Math.min(width / {WIDTH}, height / {HEIGHT});"
            f"const at = [(width - {WIDTH} * scale) / 2 + {x} * scale, (height - {HEIGHT} * scale) / 2 + {y} * scale];"
            "const pixel = canvas.getContext('2d').getImageData(Math.round(at[0]), Math.round(at[1]), 1, 1).data;"
            "return [...pixel].slice(0, 3);"
            "})()"
        )
    )


def on_stage(tab: Tab, x: float, y: float) -> tuple[float, float]:
    """Where a point of the picture, shown whole, is in the window, px."""
    left, top, width, height = tab.value(
        "(() => { const at = document.querySelector('#stage').getBoundingClientRect();"
        "return [at.left, at.top, at.width, at.height]; })()"
    )
    scale = min(width / WIDTH, height / HEIGHT)
    return left + (width - WIDTH * scale) / 2 + x * scale, top + (height - HEIGHT * scale) / 2 + y * scale


def test_at_first_the_models_own_thresholds_and_one_request_for_all_of_them(page: Tab, server, picture):
    look_at(page, picture)
    assert shown(page) == ["red fig"]
    assert "1 object (1 × red fig), at the model's own thresholds" in text(page, "#outcome")
    assert text(page, "#threshold-said") == "0.50 – 0.70"
    move(page, "#threshold", 0.2)
    assert shown(page) == ["red fig", "green/date", "blue"]
    assert text(page, "#outcome") == "3 objects (1 × red fig, 1 × green/date, 1 × blue), at threshold 0.20"
    move(page, "#threshold", 0.55)
    assert shown(page) == ["red fig", "green/date"]
    move(page, "#classes li:first-child [type=range]", 0.95)  # of red alone
    assert shown(page) == ["green/date"]
    move(page, "#threshold", 0.99)
    assert text(page, "#outcome") == "none of 3 objects is shown, at threshold 0.99"
    page.value("document.querySelector('#own-thresholds').click()")
    assert shown(page) == ["red fig"]
    assert page.value("document.activeElement.id") == "threshold"
    assert len(asked(page)) == 1
    assert "threshold=0.05" in asked(page)[0]
    page.until(
        "document.querySelector('#status').textContent === 'fruit.png: 1 object (1 × red fig), "
        "at the model\\'s own thresholds.'"
    )
    assert page.complaints == []
    assert all(address.startswith((server.address, "blob:")) for address in page.requests)


def test_the_stage_shows_what_is_shown_in_the_colours_of_overlays(page: Tab, picture):
    look_at(page, picture)
    red, inside_red, inside_green = colours([0])[0], (40, 120), (260, 150)
    blended = 0.58 * np.array([255, 0, 0]) + 0.42 * np.array(red)
    assert np.abs(colour_at(page, *inside_red) - blended).max() <= 2
    assert np.abs(colour_at(page, *inside_green) - [0, 255, 0]).max() <= 2
    page.value("document.querySelector('#classes input[type=checkbox]').click()")
    page.until("document.querySelector('#outcome').textContent.startsWith('none of 3')")
    painted(page)
    assert np.abs(colour_at(page, *inside_red) - [255, 0, 0]).max() <= 2
    page.value("document.querySelector('#all-classes').click(); document.querySelector('#masks').click()")
    painted(page)
    assert shown(page) == ["red fig"]
    assert np.abs(colour_at(page, *inside_red) - [255, 0, 0]).max() <= 2
    page.value("document.querySelector('#no-class').click()")
    assert shown(page) == []


def test_what_is_pointed_at_is_told(page: Tab, server, picture):
    look_at(page, picture)
    assert not is_seen(page, ".note-on")
    page.mouse("mouseMoved", *on_stage(page, 60, 100))
    page.until("!document.querySelector('.note-on').hidden")
    area = server.predictor.predict(str(picture)).masks[0].sum()
    note = text(page, ".note-on")
    assert "red fig" in note
    assert "score 0.90" in note
    assert f"{area:,} px (16 %), 100 × 120" in note
    assert page.value("document.querySelectorAll('#objects .chosen').length") == 1
    page.mouse("mouseMoved", *on_stage(page, 300, 230))
    page.until("document.querySelector('.note-on').hidden")


def test_everything_can_be_done_with_the_keyboard(page: Tab, picture):
    look_at(page, picture)
    move(page, "#threshold", 0.2)
    reached = []
    page.value("document.activeElement.blur()")
    for _ in range(40):
        page.press("Tab")
        reached.append(
            page.value("document.activeElement.id || document.activeElement.name || document.activeElement.ariaLabel")
        )
    for wanted in (
        "theme",
        "file",
        "camera",
        "stage",
        "closer",
        "whole",
        "threshold",
        "own-thresholds",
        "all-classes",
        "masks",
        "colour-by",
        "download-overlay",
        "download-coco",
        "download-labelme",
        "blue 3, show in the picture",
        "Threshold of blue",
    ):
        assert wanted in reached, reached
    page.value("document.querySelector('#threshold').focus()")
    page.press("End")
    assert text(page, "#threshold-said") == "1.00"
    page.press("Home")
    assert text(page, "#threshold-said") == "0.05"
    page.value("document.querySelector('#stage').focus()")
    for key, name in (("n", "red fig"), ("n", "green/date"), ("n", "blue"), ("n", "red fig"), ("p", "blue")):
        page.press(key)
        page.until(f"document.querySelector('.note-on').textContent.includes({name!r})")
    page.until("document.querySelector('#status').textContent.startsWith('blue, score 0.30, ')")
    page.press("Escape")
    page.until("document.querySelector('.note-on').hidden")
    before = page.value("document.querySelector('#stage').classList.contains('closer')")
    page.press("+")
    assert (before, page.value("document.querySelector('#stage').classList.contains('closer')")) == (False, True)
    page.press("0")
    assert not page.value("document.querySelector('#stage').classList.contains('closer')")
    assert len(asked(page)) == 1


def test_the_wheel_zooms_where_it_points_and_a_drag_moves(page: Tab, picture):
    look_at(page, picture)
    x, y = on_stage(page, 30, 100)
    for _ in range(4):
        page.mouse("mouseWheel", x, y, deltaX=0, deltaY=-200)
    page.until("document.querySelector('#stage').classList.contains('closer')")
    page.until("document.querySelector('.note-on').textContent.includes('red fig')")
    for kind, at in (("mousePressed", 600), ("mouseMoved", 300), ("mouseMoved", 0), ("mouseReleased", 0)):
        page.mouse(kind, x + at, y, button="left", buttons=int(kind != "mouseReleased"), clickCount=1)
    page.mouse("mouseMoved", x + 1, y)  # what was right of it, and of the red one, has come here
    page.until("document.querySelector('.note-on').hidden")
    assert page.value("scrollY") == 0


def test_downloads_hold_what_is_shown(page: Tab, server, picture, tmp_path):
    look_at(page, picture)
    move(page, "#threshold", 0.5)  # red and green
    folder = tmp_path / "downloads"
    page.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
    for kind in ("coco", "labelme", "overlay"):
        page.value(f"document.querySelector('#download-{kind}').click()")
    wanted = {"fruit.coco.json", "fruit.json", "fruit.overlay.png"}
    until = time.monotonic() + 30
    while not (folder.is_dir() and {path.name for path in folder.iterdir()} == wanted):
        assert time.monotonic() < until
        time.sleep(0.05)
    instances = server.predictor.predict(str(picture), threshold=0.5)
    assert len(instances) == 2
    coco = json.loads((folder / "fruit.coco.json").read_text())
    assert coco["images"] == [{"id": 1, "file_name": "fruit.png", "width": WIDTH, "height": HEIGHT}]
    assert [one["category_id"] for one in coco["annotations"]] == [3, 70]
    assert [one["area"] for one in coco["annotations"]] == [one.sum() for one in instances.masks]
    labelme = json.loads((folder / "fruit.json").read_text())
    assert labelme == json.loads(json.dumps(instances.to_labelme())) | {"imagePath": "fruit.png"}
    overlay = np.asarray(Image.open(folder / "fruit.overlay.png").convert("RGB")).astype(int)
    assert overlay.shape == (HEIGHT, WIDTH, 3)
    plain = rectangles(HEIGHT, WIDTH, red=RED, green=GREEN, blue=BLUE).astype(int)
    changed = np.abs(overlay - plain).max(axis=2) > 8
    assert changed[instances.masks.any(axis=0)].all()
    assert not changed[BLUE[1] : BLUE[3], BLUE[0] : BLUE[2]].any(), "blue is below the threshold"
    assert not changed[-10:].any()


def test_pictures_one_after_another(page: Tab, tmp_path):
    names = [saved(tmp_path / f"{name}.png") for name in ("first", "second", "third")]
    look_at(page, *names)
    assert text(page, "#name") == "first.png"
    labels = page.value("[...document.querySelectorAll('#strip button')].map(button => button.ariaLabel)")
    assert labels == ["first.png, 1 shown", "second.png, 1 shown", "third.png, 1 shown"]
    page.value("document.querySelectorAll('#strip button')[2].click()")
    page.until("document.querySelector('#name').textContent === 'third.png'")
    move(page, "#threshold", 0.2)  # of all pictures
    labels = page.value("[...document.querySelectorAll('#strip button')].map(button => button.ariaLabel)")
    assert labels == ["first.png, 3 shown", "second.png, 3 shown", "third.png, 3 shown"]
    assert page.value("document.querySelectorAll('#strip canvas').length") == 3
    assert len(asked(page)) == 3


@pytest.mark.parametrize("name", ["turned.jpg", "turned.png", "turned.webp", "turned.tif"])
def test_a_picture_is_upright_as_the_server_sees_it(page: Tab, tmp_path, name):
    """Of WebP browsers pass over the orientation, and TIFF they do not show: the server shows both."""
    upright = rectangles(HEIGHT, WIDTH, red=RED, green=GREEN, blue=BLUE)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    options = {"lossless": True} if name.endswith("webp") else {"quality": 98} if name.endswith("jpg") else {}
    Image.fromarray(np.rot90(upright)).save(tmp_path / name, exif=exif, **options)
    look_at(page, tmp_path / name)
    assert text(page, "#facts").startswith(f"{WIDTH} × {HEIGHT} px")
    assert shown(page) == ["red fig"]
    page.value("document.querySelector('#masks').click()")
    painted(page)
    for box, colour in ((RED, [255, 0, 0]), (GREEN, [0, 255, 0]), (BLUE, [0, 0, 255])):
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        assert np.abs(colour_at(page, x, y) - colour).max() <= 40
    assert (len(asked(page, "/picture")) > 0) == name.endswith(("webp", "tif"))
    assert len(asked(page)) == 1


def test_refusals_are_words(page: Tab, server, tmp_path, picture):
    """A broken file, another kind of file, an empty and a large one; what comes after them is looked at."""
    broken = tmp_path / "broken.png"
    broken.write_bytes(picture.read_bytes()[:200])
    (tmp_path / "letter.pdf").write_bytes(b"%PDF-1.4")
    (tmp_path / "empty.png").touch()
    large = tmp_path / "large.png"
    large.write_bytes(picture.read_bytes() + bytes(500_000))
    (tmp_path / "not.png").write_bytes(b"nothing of the kind")
    cases = {
        broken: "cannot be read",
        tmp_path / "not.png": "This is not an image",
        tmp_path / "letter.pdf": "This is no picture but application/pdf",
        tmp_path / "empty.png": "0 bytes",
        large: "this server takes up to 391 KiB",
    }
    for path, words in cases.items():
        look_at(page, path)
        assert is_seen(page, "#trouble")
        assert text(page, "#trouble-name") == path.name
        assert words in text(page, "#trouble-words"), text(page, "#trouble-words")
        assert not is_seen(page, "#retry"), "the same file will be refused again"
        assert not is_seen(page, "#results")
    assert len(asked(page)) == 2, "what is refused anyway is not sent"
    look_at(page, picture)
    assert not is_seen(page, "#trouble")
    assert shown(page) == ["red fig"]


def test_a_busy_server_is_asked_again_when_somebody_says_so(page: Tab, server, picture, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(server.service, "_inside", server.service.settings.queue_size)
        look_at(page, picture)
        assert "busy with other pictures. Try again in" in text(page, "#trouble-words")
    page.value("document.querySelector('#retry').click()")
    page.until("document.querySelectorAll('#strip .found').length === 1")
    page.until("!document.querySelector('#results').hidden")
    assert shown(page) == ["red fig"]


def test_a_server_that_has_gone_is_said(tab: Tab, picture):
    with serving(name="gone") as server:
        opened(tab, server)
    look_at(tab, picture)
    assert "The server does not answer." in text(tab, "#trouble-words")
    assert is_seen(tab, "#retry")


def test_dropped_and_pasted(page: Tab):
    """Files of a drop and of the clipboard go the same way as chosen ones."""
    make = (
        "const canvas = Object.assign(document.createElement('canvas'), { width: 60, height: 40 });"
        "canvas.getContext('2d').fillStyle = '#ff0000'; canvas.getContext('2d').fillRect(10, 10, 20, 20);"
        "const blob = await new Promise(resolve => canvas.toBlob(resolve));"
        "const transfer = new DataTransfer(); transfer.items.add(new File([blob], 'image.png', { type: 'image/png' }));"
    )
    page.value(f"(async () => {{ {make} dispatchEvent(new DragEvent('drop', {{ dataTransfer: transfer }})); }})()")
    page.until("document.querySelectorAll('#strip .found').length === 1")
    assert text(page, "#name") == "image.png"
    page.value(
        f"(async () => {{ {make} dispatchEvent(new ClipboardEvent('paste', {{ clipboardData: transfer }})); }})()"
    )
    page.until("document.querySelectorAll('#strip .found').length === 2")
    assert text(page, "#name") == "pasted 2.png"


def test_a_picture_of_the_camera(page: Tab):
    page.value("document.querySelector('#camera').click()")
    page.until("document.querySelector('#camera-window').open && !document.querySelector('[name=take]').disabled")
    page.value("document.querySelector('[name=take]').click()")
    page.until("document.querySelectorAll('#strip .found').length === 1")
    page.until("!document.querySelector('#camera-window').open")
    assert text(page, "#name").startswith("camera ")
    assert page.value("document.querySelector('video').srcObject") is None


@pytest.mark.parametrize(("width", "theme"), [(360, "light"), (390, "dark"), (768, "light"), (1440, "dark")])
def test_it_fits_any_window_and_can_be_read(page: Tab, server, picture, tmp_path, theme, width):
    page.prefer(theme)
    opened(page, server, width=width, height=844)
    assert page.value("document.documentElement.scrollWidth") <= width
    assert page.value(CONTRASTS) == []
    look_at(page, picture)
    assert page.value("document.documentElement.scrollWidth") <= width
    assert page.value(CONTRASTS) == []
    (tmp_path / "broken.png").write_bytes(b"nothing")
    look_at(page, tmp_path / "broken.png")
    assert page.value("document.documentElement.scrollWidth") <= width
    assert page.value(CONTRASTS) == []


def test_two_fingers_zoom_and_a_tap_tells(page: Tab, server, picture):
    opened(page, server, width=390, height=844)
    look_at(page, picture)
    x, y = on_stage(page, 70, 90)
    page.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
    page.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    page.until("document.querySelector('.note-on').textContent.includes('red fig')")
    fingers = lambda apart: [{"x": x - apart, "y": y, "id": 0}, {"x": x + apart, "y": y, "id": 1}]  # noqa: E731
    page.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=fingers(20))
    for apart in (30, 40, 60):
        page.call("Input.dispatchTouchEvent", type="touchMove", touchPoints=fingers(apart))
    page.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    page.until("document.querySelector('#stage').classList.contains('closer')")


def test_nothing_from_elsewhere_is_let_in(page: Tab, server):
    """The policy is in force: a script in the document and an image that is no file of the server are refused."""
    answer = server.ask("GET", "/")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    refused = page.value(
        "(async () => { const script = document.createElement('script'); script.textContent = 'window.let = 1';"
        "document.body.append(script); const image = new Image();"
        "const failed = new Promise(done => { image.onerror = () => done(true); image.onload = () => done(false); });"
        "image.src = 'data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw==';"
        "return [window.let === undefined, await failed]; })()"
    )
    assert refused == [True, True]


def test_behind_a_token_the_browser_asks_once_and_everything_works(tab: Tab, picture, tmp_path):
    """Asked for again after a wrong one; given up, there is no page, but the reason."""
    turned = tmp_path / "turned.tif"
    saved(turned)
    with serving(Predictor(ColourModel(), colour_header(thresholds=OWN)), token="open: sesame") as guarded:
        with tab.typing_passwords():
            tab.open(f"{guarded.address}/")
            assert "this server asks for a token" in tab.value("document.body.textContent")
        with tab.typing_passwords("wrong", "open: sesame", "never asked for") as left:
            opened(tab, guarded)
            look_at(tab, picture, turned)
            assert left == ["never asked for"]
        assert shown(tab) == ["red fig"]
        assert len(asked(tab)) == 2
        assert len(asked(tab, "/picture")) > 0, "TIFF is shown by the server, which asks for the token, too"
        assert not is_seen(tab, "#trouble")


@pytest.mark.parametrize(
    "path", ["/assets/../demo_page.py", "/assets/%2e%2e/door.py", "/assets/nothing.js", "/assets/", "/assets/.."]
)
def test_no_other_file_is_given(server, path):
    assert server.ask("GET", path).status == 404
