"""The formats: what reads each, what writes it."""

from collections.abc import Callable

from finemask.datatools.convert.coco import read_coco, write_coco
from finemask.datatools.convert.cvat import read_cvat
from finemask.datatools.convert.labelme import read_labelme, write_labelme
from finemask.datatools.convert.mask_png import read_mask_png, write_mask_png
from finemask.datatools.convert.output import Output
from finemask.datatools.convert.records import Dataset
from finemask.datatools.convert.source import Source
from finemask.datatools.convert.via import read_via
from finemask.datatools.convert.voc import read_voc
from finemask.datatools.convert.yolo import read_yolo
from finemask.datatools.convert.yolo_out import write_yolo

READERS: dict[str, Callable[[Source], Dataset]] = {
    "coco": read_coco,
    "yolo": read_yolo,
    "voc": read_voc,
    "labelme": read_labelme,
    "cvat": read_cvat,
    "via": read_via,
    "mask_png": read_mask_png,
}

WRITERS: dict[str, Callable[[Dataset, Output], None]] = {
    "coco": write_coco,
    "yolo": write_yolo,
    "labelme": write_labelme,
    "mask_png": write_mask_png,
}

FOLDER_A_SPLIT = frozenset({"yolo", "labelme", "mask_png"})
"""Formats whose images lie in a folder for each split, with a file of the image's name beside or parallel to each."""
