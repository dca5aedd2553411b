"""Reading a JSON file that a person gave us, with an answer for each way in which it can be broken."""

import json
from pathlib import Path
from typing import Any

from finemask.errors import DataError


def read_json(path: Path, what: str) -> Any:
    """Parses a file.

    Args:
        path: the file.
        what: what it should be, for the message: ``"a COCO annotation file"``.

    Raises:
        DataError: it cannot be read, is no UTF-8 or no JSON.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"there is no such file; {what} was expected", where=path) from None
    except IsADirectoryError:
        raise DataError(f"this is a folder; {what} was expected", where=path) from None
    except UnicodeDecodeError as error:
        raise DataError(f"this is not UTF-8 text ({error.reason}); {what} was expected", where=path) from None
    except OSError as error:
        raise DataError(f"this cannot be read ({error.strerror})", where=path) from error
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(
            f"this is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}",
            where=path,
            remedy="The file may have been cut short; write or download it again.",
        ) from None
    except RecursionError:
        raise DataError("this JSON is nested too deeply to be a COCO file", where=path) from None
