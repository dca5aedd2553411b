"""What the server refuses: a status, a code for programs, a sentence for people."""

import json
from typing import Any

from finemask.errors import FinemaskError


class RefusalError(FinemaskError):
    """A request that is not answered as asked.

    Args:
        status: of HTTP: 4xx is the client's to mend, 503 is worth another try.
        code: a word for programs, such as ``image-too-large``.
        what: what is wrong, naming the values seen.
        remedy: what to do about it, as a sentence.
        retry_after_s: when another try may succeed; None: the same request never will.
        headers: more headers of the answer.
    """

    def __init__(
        self,
        status: int,
        code: str,
        what: str,
        *,
        remedy: str | None = None,
        retry_after_s: float | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(what, remedy=remedy)
        self.status, self.code = status, code
        self.headers = dict(headers or {})
        if retry_after_s is not None:
            self.headers["retry-after"] = str(max(1, round(retry_after_s)))


def error_json(code: str, message: str) -> dict[str, Any]:
    """The body of every answer that is none."""
    return {"error": {"code": code, "message": message}}


def error_body(code: str, message: str) -> bytes:
    """``error_json`` as it is sent."""
    return json.dumps(error_json(code, message), ensure_ascii=False).encode()
