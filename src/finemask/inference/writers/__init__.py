"""Files that predictions are written to: one small module a format, imported when it is chosen by name."""

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Protocol

from finemask.errors import ConfigError, did_you_mean
from finemask.inference.instances import Instances

# What `save=` may name, and the class that does it.
WRITERS = {
    "overlay": "finemask.inference.writers.overlay:OverlayWriter",
    "coco": "finemask.inference.writers.coco:CocoWriter",
    "masks": "finemask.inference.writers.masks:MaskWriter",
    "label_map": "finemask.inference.writers.label_map:LabelMapWriter",
    "crops": "finemask.inference.writers.crops:CropWriter",
    "csv": "finemask.inference.writers.csv_table:CsvWriter",
    "labelme": "finemask.inference.writers.labelme:LabelmeWriter",
    "geojson": "finemask.inference.writers.geojson:GeojsonWriter",
}


class Writer(Protocol):
    """Writes the predictions of a run, image by image.

    Args:
        output: folder of the run; the writer makes one file or one folder in it, named after itself.
    """

    def __init__(self, output: Path) -> None: ...

    def add(self, instances: Instances, image_id: int | None) -> list[Path]:
        """Takes the instances of one more image.

        Args:
            instances: of the image.
            image_id: in a COCO file; None where the annotation file that was given does not have the image.

        Returns:
            The files that were written for this image.
        """

    def finish(self) -> list[Path]:
        """Writes what is written once; returns the files and folders that hold the result."""


def open_writers(names: Iterable[str], output: Path, *, color_by: str = "instance") -> list[Writer]:
    """The writers of those names, each once.

    Args:
        names: keys of ``WRITERS``.
        output: folder to write to; made when first needed.
        color_by: colours of the overlays, by ``instance`` or ``class``.

    Raises:
        ConfigError: an unknown name.
    """
    writers: list[Writer] = []
    for name in dict.fromkeys(names):
        if name not in WRITERS:
            hint = did_you_mean(str(name), WRITERS)
            raise ConfigError(f"save={name} is not known", remedy=f"{hint}There are: {', '.join(WRITERS)}.")
        module, _, kind = WRITERS[name].partition(":")
        options = {"color_by": color_by} if name == "overlay" else {}
        writers.append(getattr(import_module(module), kind)(output, **options))
    return writers
