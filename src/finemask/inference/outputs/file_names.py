"""What the files of an image are called."""

import hashlib
import os
from pathlib import PurePosixPath

from finemask.ops.images.image_kinds import image_suffixes

_LONGEST_BYTES = 240  # of the name of a file without its suffix: with it, file systems take 255


def output_stem(name: str) -> str:
    """What the files of an image are called: its name without its suffix.

    Its folders are kept, so that equal names do not meet. A name that leaves no room for the suffixes of results is cut
    short, and ends in a checksum of the whole.
    """
    path = PurePosixPath(name)
    parts = [part for part in path.parts if part not in ("/", "..", ".")]
    if parts and path.suffix.lower() in image_suffixes():
        parts[-1] = parts[-1][: -len(path.suffix)]
    if parts and len(os.fsencode(parts[-1])) > _LONGEST_BYTES:
        checksum = hashlib.sha256(os.fsencode(parts[-1])).hexdigest()[:8]
        cut = os.fsencode(parts[-1])[: _LONGEST_BYTES - 9].decode(errors="ignore")
        parts[-1] = f"{cut}-{checksum}"
    return "/".join(parts) or "image"
