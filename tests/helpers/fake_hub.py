"""A Hugging Face Hub of one's own on loopback, as much of it as its client asks for."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_writer"


class FakeHub:
    """Repositories in memory.

    Attributes:
        files: ``{"OWNER/NAME": {file: content}}``.
        visibility: of the repositories that were made, as it was asked for.
        gated: repositories that want to be asked first.
        answers: requests so far, as ``METHOD path``.
    """

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.visibility: dict[str, str] = {}
        self.gated: set[str] = set()
        self.answers: list[str] = []
        self.url = ""

    def of_request(self, method: str, path: str, headers, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and content of the answer."""
        self.answers.append(f"{method} {path}")
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self._file(*found.groups(), with_content=method == "GET")
        if path == "/":
            return 200, {}, b""
        if headers.get("Authorization") != f"Bearer {TOKEN}":
            return 403, {}, b'{"error": "not yours"}'
        if path == "/api/repos/create":
            asked = json.loads(body)
            repo = f"{asked.get('organization') or 'me'}/{asked['name']}"
            if repo in self.files:
                return 409, {}, json.dumps({"error": "it is there", "url": f"{self.url}/{repo}"}).encode()
            self.files[repo], self.visibility[repo] = {}, asked.get("visibility", "public")
            return _json({"url": f"{self.url}/{repo}", "name": repo})
        if path == "/api/validate-yaml":
            if 'license: "none-such"' in json.loads(body)["content"]:
                return 400, {}, b'{"errors": [{"message": "\\"license\\" must be one of a list"}], "warnings": []}'
            return _json({"errors": [], "warnings": []})
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/[^/]+", path):
            how = {"uploadMode": "regular", "shouldIgnore": False}
            return _json({"files": [{"path": file["path"]} | how for file in json.loads(body)["files"]]})
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/[^/]+", path):
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    content = base64.b64decode(entry["value"]["content"])
                    self.files[found[1]][entry["value"]["path"]] = content
            return _json({"commitUrl": f"{self.url}/{found[1]}/commit/{COMMIT}", "commitOid": COMMIT})
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/revision/[^/]+)?", path):
            return _json({"id": found[1], "sha": COMMIT, "siblings": []})
        return 404, {}, b"{}"

    def _file(self, repo: str, revision: str, name: str, *, with_content: bool) -> tuple[int, dict[str, str], bytes]:
        if repo in self.gated:
            return 403, {"X-Error-Code": "GatedRepo"}, b""
        if repo not in self.files:
            return 401, {"X-Error-Code": "RepoNotFound"}, b""
        if revision not in ("main", "v1", COMMIT):
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        if name not in self.files[repo]:
            return 404, {"X-Error-Code": "EntryNotFound"}, b""
        content = self.files[repo][name]
        headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
        return 200, headers | {"Content-Length": str(len(content))}, content if with_content else b""


def _json(value) -> tuple[int, dict[str, str], bytes]:
    return 200, {"Content-Type": "application/json"}, json.dumps(value).encode()


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """A hub that answers at ``url`` while the block lasts."""
    hub = FakeHub()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, headers, content = hub.of_request(self.command, self.path.partition("?")[0], self.headers, body)
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(content))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_HEAD = do_GET = do_POST = _answer  # noqa: N815 (the server's names)

        def log_message(self, *_: object) -> None:
            """Nothing is printed."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def ask_there(monkeypatch, url: str, cache: Path) -> None:
    """Lets the client ask at that address and keep what it gets there; it has read its environment long ago."""
    from huggingface_hub import constants

    for name, value in (
        ("ENDPOINT", url),
        ("HUGGINGFACE_CO_URL_TEMPLATE", f"{url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"),
        ("HF_HUB_CACHE", str(cache)),
        ("HF_TOKEN_PATH", str(cache / "token")),
        ("HF_STORED_TOKENS_PATH", str(cache / "tokens")),
        ("HF_HUB_DISABLE_XET", True),
    ):
        monkeypatch.setattr(constants, name, value)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
