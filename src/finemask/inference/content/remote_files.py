"""Files behind an address of fsspec: ``s3://``, ``gs://``, ``az://``, ``hf://``, ``memory://`` and its others.

What reads such an address is a package of its own (s3fs, gcsfs, …), which takes keys and passwords from where it always
does: its environment variables and files.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any

from finemask.errors import DataError
from finemask.ops.images.image_kinds import image_suffixes

MOST_BYTES = 256 * 2**20  # of an image, as of those behind a URL
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def is_remote(text: str) -> bool:
    """Whether it is an address that fsspec reads; http and https are read by ``web_fetch``."""
    return _ADDRESS.match(text) is not None and not text.lower().startswith(("http://", "https://"))


def list_remote(address: str) -> list[tuple[str, str]]:
    """The images behind an address: name and address of a file, of all below a folder, or of all that a glob matches.

    Names are the paths below the folder.

    Raises:
        DataError: there is nothing, or it cannot be listed.
    """
    with _file_system(address) as (files, path):
        if "*" in path:
            above = PurePosixPath(path[: path.index("*")] + "x").parent.as_posix()
            found = files.glob(path)
        elif files.isdir(path):
            above, found = path, files.find(path)
        else:
            return [(PurePosixPath(path).name or "image", address)]
        suffixes = image_suffixes()
        images = [one for one in found if PurePosixPath(one).suffix.lower() in suffixes]
        if not images:
            raise DataError(f"no images there, {len(found):,} other files", where=address)
        above = above.rstrip("/") + "/"
        return [(one.removeprefix(above).lstrip("/"), files.unstrip_protocol(one)) for one in images]


def read_remote(address: str) -> bytes:
    """The content of a file.

    Raises:
        DataError: it cannot be read, or is larger than ``MOST_BYTES``.
    """
    with _file_system(address) as (files, path):
        content: bytes = files.cat_file(path, start=0, end=MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise DataError(f"more than {MOST_BYTES / 2**20:.0f} MiB", where=address, remedy="Copy it here, and tile it.")
    return content


@contextmanager
def _file_system(address: str) -> Iterator[tuple[Any, str]]:
    """The file system of an address and its path there; whatever goes wrong names the address."""
    import fsspec

    try:
        yield fsspec.core.url_to_fs(address)
    except DataError:
        raise
    except ImportError as error:  # fsspec says which package reads such addresses
        raise DataError(f"cannot be opened: {error}", where=address, remedy="Install that package.") from None
    except FileNotFoundError:
        raise DataError("there is no such file", where=address, remedy="Check the address.") from None
    except Exception as error:  # each of these packages has errors of its own
        raise DataError(f"cannot be read ({type(error).__name__}: {error})", where=address) from error
