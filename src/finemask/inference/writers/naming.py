"""Names of written files."""

import re
from pathlib import PurePosixPath

from finemask.inference.instances import Instances
from finemask.ops.images.image_kinds import image_suffixes


def output_stem(instances: Instances) -> str:
    """The image's name without its suffix; its folders are kept, so that equal names do not meet."""
    path = PurePosixPath(instances.name)
    parts = [part for part in path.parts if part not in ("/", "..", ".")]
    stem = "/".join(parts) or "image"
    return stem[: -len(path.suffix)] if path.suffix.lower() in image_suffixes() else stem


def instance_file(number: int, class_name: str) -> str:
    """``0001_fig.png``: what sets file names at risk is left out of the class name."""
    return f"{number:04d}_{re.sub(r'[^0-9A-Za-z_-]+', '-', class_name).strip('-') or 'class'}.png"
