"""A headless Chromium, driven over its own pipe (DevTools protocol): no driver package, no port, no network."""

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_PATIENCE_S = 60.0
# The browser reads commands from descriptor 3 and writes answers to 4; this puts the pipes there and becomes it.
_ARRANGE = """
import fcntl, os, sys
spare = [fcntl.fcntl(int(number), fcntl.F_DUPFD_CLOEXEC, 10) for number in sys.argv[1:3]]
os.dup2(spare[0], 3), os.dup2(spare[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


def find_browser() -> str | None:
    """The path of a Chromium or Chrome; None where there is none."""
    return next((path for name in _NAMES if (path := shutil.which(name))), None)


# An expression: the elements whose text has a contrast below 4.5 with what is behind it (WCAG AA).
CONTRASTS = """(() => {
  const channels = colour => colour.match(/[\\d.]+/g).map(Number);
  const linear = c => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4;
  const luminance = ([r, g, b]) => .2126 * linear(r / 255) + .7152 * linear(g / 255) + .0722 * linear(b / 255);
  const ground = element => {
    for (let at = element; at; at = at.parentElement) {
      const colour = channels(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const element of document.querySelectorAll("main *, nav *")) {
    const own = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
    if (!own || !element.getClientRects().length || element.closest("dialog")) continue;
    const style = getComputedStyle(element), isSvg = element.namespaceURI.endsWith("svg");
    if (isSvg && (element.tagName === "title" || element.classList.contains("count"))) continue;
    const [a, b] = [channels(isSvg ? style.fill : style.color), ground(element)].map(luminance).sort((x, y) => y - x);
    if ((a + .05) / (b + .05) < 4.5) poor.push(element.outerHTML.slice(0, 120));
  }
  return poor;
})()"""


class Tab:
    """One page of a browser; what it asks for and complains of is kept.

    Attributes:
        requests: every address it asked for.
        complaints: messages of its console that are errors or warnings, and uncaught exceptions.
    """

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to, self._from, self._buffer, self._number = to_browser, from_browser, b"", 0
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self._session: str | None = None
        self._passwords: list[str] | None = None
        self._events: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Sends a command and waits for its answer."""
        number = self._send(method, params)
        while True:
            answer = self._next()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    def _send(self, method: str, params: dict[str, Any]) -> int:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        return self._number

    @contextmanager
    def typing_passwords(self, *passwords: str) -> Iterator[list[str]]:
        """Within the block a window that asks for a password is given these in turn, and then closed.

        Yields:
            Those that no window has asked for yet.
        """
        self._passwords = list(passwords)
        self.call("Fetch.enable", handleAuthRequests=True)
        try:
            yield self._passwords
        finally:
            self.call("Fetch.disable")
            self._passwords = None

    def open(self, page: Path | str, width: int = 1280, height: int = 900, *, phone: bool = False) -> None:
        """Loads a file, or an address, and waits until it has loaded, pictures and all.

        Args:
            page: path or address.
            width: of the window, px.
            height: of the window, px.
            phone: with fingers for a mouse, and two pixels of the screen to one of the window.
        """
        size = {"width": width, "height": height, "deviceScaleFactor": 2 if phone else 1}
        self.call("Emulation.setDeviceMetricsOverride", mobile=phone, **size)
        self.call("Emulation.setTouchEmulationEnabled", enabled=phone)
        self.requests.clear(), self.complaints.clear(), self._events.clear()
        self.call("Page.navigate", url=page.resolve().as_uri() if isinstance(page, Path) else page)
        while "Page.loadEventFired" not in self._events:
            self._next()

    def value(self, expression: str) -> Any:
        """What an expression, or the promise it gives, comes to."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def until(self, expression: str, patience_s: float = 60.0) -> Any:
        """What an expression comes to as soon as it is true."""
        deadline = time.monotonic() + patience_s
        while not (found := self.value(expression)):
            assert time.monotonic() < deadline, f"not so within {patience_s:g} s: {expression}"
            time.sleep(0.02)
        return found

    def choose(self, selector: str, *paths: Path) -> None:
        """Gives files to an input, as its dialog does."""
        answer = self.call("Runtime.evaluate", expression=f"document.querySelector({selector!r})")
        files = [str(path.resolve()) for path in paths]
        self.call("DOM.setFileInputFiles", files=files, objectId=answer["result"]["objectId"])

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        """``mouseMoved``, ``mousePressed``, ``mouseReleased`` or ``mouseWheel`` at a point of the window, px."""
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def press(self, key: str, text: str = "") -> None:
        """A key down and up: one with a name, or a letter."""
        codes = {"Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowRight": 39, "Home": 36, "End": 35, " ": 32, "Tab": 9}
        code = codes.get(key) or ord(key.upper())
        about = {"key": key, "code": "Space" if key == " " else key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **about)
        self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def prefer(self, theme: str) -> None:
        """Whether the system is "light" or "dark"."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])

    def screenshot(self, path: Path, *, full: bool = True) -> None:
        """Writes a PNG of the page, or of what is in sight."""
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=full)["data"]
        path.write_bytes(base64.b64decode(data))

    def pdf(self) -> bytes:
        """The page as it is printed."""
        answer = self.call("Page.printToPDF", printBackground=True, preferCSSPageSize=True)
        return base64.b64decode(answer["data"])

    def _next(self) -> dict[str, Any]:
        deadline = time.monotonic() + _PATIENCE_S
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._from], [], [], max(deadline - time.monotonic(), 0))
            assert ready, "the browser does not answer"
            received = os.read(self._from, 1 << 20)
            assert received, "the browser has gone"
            self._buffer += received
        raw, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(raw)
        method, params = message.get("method", ""), message.get("params", {})
        self._events.append(method)
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(str(params["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.complaints.append(str(params["args"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append(params["entry"]["text"])
        elif method == "Fetch.requestPaused":
            self._send("Fetch.continueRequest", {"requestId": params["requestId"]})
        elif method == "Fetch.authRequired" and self._passwords is not None:
            typed = {"response": "CancelAuth"}
            if self._passwords:
                typed = {"response": "ProvideCredentials", "username": "me", "password": self._passwords.pop(0)}
            self._send("Fetch.continueWithAuth", {"requestId": params["requestId"], "authChallengeResponse": typed})
        return message


@contextmanager
def browser_tab(browser: str, profile: Path) -> Iterator[Tab]:
    """A tab of a browser of its own, which ends with the block.

    Args:
        browser: path of the program.
        profile: an empty folder for what it writes.
    """
    command_read, command_write = os.pipe()
    answer_read, answer_write = os.pipe()
    pretended = [
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
    ]  # a camera, and leave to use it
    options = [
        *pretended,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--remote-debugging-pipe",
        f"--user-data-dir={profile}",
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", _ARRANGE, str(command_read), str(answer_write), browser, *options, "about:blank"],
        pass_fds=(command_read, answer_write),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(command_read)
    os.close(answer_write)
    try:
        yield Tab(command_write, answer_read)
    finally:
        os.close(command_write)  # which is what ends it
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(answer_read)
