"""Forms of file names and images, for the table of the guide: each spoils all three images of the scene."""

from collections.abc import Callable
from functools import partial

import numpy as np
from forms_writing import Form
from PIL import Image
from scenes import Scene
from tiff_data import tiff_bytes


def _named(file: Callable[[str], str], written: Callable[[str], str] | None = None) -> Callable[[Scene], None]:
    """Files are called so, and in the annotations as ``written``, or as they were."""

    def spoil(scene: Scene) -> None:
        for image in scene.train["images"]:
            name = image["file_name"]
            path = scene.images_dir / file(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            (scene.images_dir / name).rename(path)
            image["file_name"] = name if written is None else written(name)

    return spoil


def _stored(suffix: str, encode: Callable[[np.ndarray], bytes] | str) -> Callable[[Scene], None]:
    """Files of another format, which the annotations name."""

    def spoil(scene: Scene) -> None:
        for image in scene.train["images"]:
            path = scene.images_dir / image["file_name"]
            with Image.open(path) as opened:
                grey = np.asarray(opened.convert("L")).copy()
            path.unlink()
            image["file_name"] = path.with_suffix(suffix).name
            if isinstance(encode, str):
                Image.fromarray(grey).save(path.with_suffix(suffix), encode)
            else:
                path.with_suffix(suffix).write_bytes(encode(grey))

    return spoil


def _ten_bits(grey: np.ndarray) -> bytes:
    return tiff_bytes(grey.astype(np.uint16) * 4)


def _floats(grey: np.ndarray) -> bytes:
    return tiff_bytes(grey.astype(np.float32))


def _channels(count: int, grey: np.ndarray) -> bytes:
    return tiff_bytes(np.stack([grey] * count, axis=2))


FILE_NAMES = (
    Form("backslashes `in\\train_1.png`", "Windows", _named(lambda n: f"in/{n}", lambda n: f"in\\{n}")),
    Form("`%20` for a blank", "web tools, Label Studio", _named(lambda n: f"a {n}", lambda n: f"a%20{n}")),
    Form("another Unicode form of `ü`", "macOS", _named(lambda n: f"u\u0308{n}", lambda n: f"\u00fc{n}")),
    Form("another letter case", "Windows, cameras", _named(str.upper)),
    Form(
        "another extension, `.jpg` for `.png`", "images converted since", _named(str, lambda n: n.replace("png", "jpg"))
    ),
    Form("without the sub-folder", "CVAT, Roboflow, own scripts", _named(lambda n: f"batch/{n}")),
    Form("with a folder that is not there", "paths of another machine", _named(str, lambda n: f"home/me/{n}")),
    Form("`..\\images\\` before the name", "Windows, own scripts", _named(str, lambda n: f"..\\images\\{n}")),
)

IMAGES = (
    Form("AVIF", "phones, web", _stored(".avif", "AVIF")),
    Form("16 bits, of the whole range", "cameras", _stored(".tif", lambda g: tiff_bytes(g.astype(np.uint16) * 257))),
    Form("10 bits in 16", "microscopes, machine vision", _stored(".tif", _ten_bits), chosen="range=[0,1023]"),
    Form("floats beyond 0 to 1", "ImageJ, satellites", _stored(".tif", _floats), chosen="range=[0,255]"),
    Form("several pages", "microscopes, scanners", _stored(".tif", lambda g: tiff_bytes(g, g, g)), chosen="page=0"),
    Form("2 channels", "microscopes", _stored(".tif", partial(_channels, 2)), chosen="channels=[1]"),
    Form("5 channels", "satellites, microscopes", _stored(".tif", partial(_channels, 5)), chosen="channels=[4,2,0]"),
)
