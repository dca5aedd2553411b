"""Faults of image files, things that are there twice, data that do not fit; each docstring says what is planted."""

from pathlib import Path

import numpy as np
from PIL import Image
from scenes import HEIGHT, Scene
from tiff_data import tiff_bytes

# --- image files -------------------------------------------------------------------------------------------------


def image_missing(scene: Scene) -> None:
    """The file of an image is not there."""
    scene.image_path().unlink()


def image_link_leaves_folder(scene: Scene) -> None:
    """The file of an image is a link to one outside of the folder."""
    elsewhere = scene.root / "elsewhere.png"
    scene.image_path().rename(elsewhere)
    scene.image_path().symlink_to(elsewhere)


def image_empty(scene: Scene) -> None:
    """An image file has 0 bytes."""
    scene.image_path().write_bytes(b"")


def image_unreadable(scene: Scene) -> None:
    """An image file is a web page."""
    scene.image_path().write_text("<html>404 not found</html>")


def image_damaged(scene: Scene) -> None:
    """An image file is cut off in the middle."""
    content = scene.image_path().read_bytes()
    scene.image_path().write_bytes(content[: len(content) // 2])


def image_pages(scene: Scene) -> None:
    """A file holds three pages."""
    _as_tiff(scene, *[_picture(scene)] * 3)


def image_range(scene: Scene) -> None:
    """A camera of 10 bits wrote a 16-bit file."""
    _as_tiff(scene, _picture(scene).astype(np.uint16) * 4)


def image_channels(scene: Scene) -> None:
    """A file holds five channels of 8 bits."""
    _as_tiff(scene, np.repeat(_picture(scene)[:, :, None], 5, axis=2))


def _picture(scene: Scene) -> np.ndarray:
    with Image.open(scene.image_path()) as image:
        return np.array(image.convert("L"))


def _as_tiff(scene: Scene, *pages: np.ndarray) -> None:
    scene.image_path().unlink()
    scene.image()["file_name"] = "train_2.tif"
    scene.image_path().write_bytes(tiff_bytes(*pages))


def image_size_differs(scene: Scene) -> None:
    """An image file is half as large as its entry says."""
    with Image.open(scene.image_path()) as image:
        half = image.reduce(2)
    half.save(scene.image_path())


def image_orientation_raw(scene: Scene) -> None:
    """A file says by EXIF that it is to be turned by 90 degrees; its annotations fit it as it is stored."""
    _orient(scene.image_path(), 6)


def image_orientation_unclear(scene: Scene) -> None:
    """A file says by EXIF that it is upside down."""
    _orient(scene.image_path(), 3)


def _orient(path: Path, orientation: int) -> None:
    with Image.open(path) as image:
        image.load()
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(path, exif=exif)


# --- what is there twice -----------------------------------------------------------------------------------------


def annotation_repeated(scene: Scene) -> None:
    """An annotation is there again, under another id."""
    scene.train["annotations"].append({**scene.compressed(), "id": 900})


def annotation_near_duplicate(scene: Scene) -> None:
    """An annotation is there again, a little smaller."""
    polygon = list(scene.polygon()["segmentation"][0])
    polygon[0] += 1
    scene.train["annotations"].append(_outlined(900, 2, 1, polygon))


def annotation_two_classes(scene: Scene) -> None:
    """An object is annotated as a leaf and as a nut."""
    scene.train["annotations"].append(_outlined(900, 2, 2, scene.polygon()["segmentation"][0]))


def _outlined(number: int, image_id: int, category_id: int, polygon: list[float]) -> dict:
    return {"id": number, "image_id": image_id, "category_id": category_id, "segmentation": [polygon], "iscrowd": 0}


def image_in_two_files(scene: Scene) -> None:
    """An image of train is in val as well."""
    name = scene.image(2)["file_name"]
    scene.val["images"].append({**scene.image(2), "id": 20})
    scene.val["annotations"].append(_outlined(900, 20, 1, scene.polygon(2)["segmentation"][0]))
    assert name not in [image["file_name"] for image in scene.val["images"][:-1]]


def image_near_duplicate_across(scene: Scene) -> None:
    """val has a copy of an image of train, a little brighter."""
    _add_copy(scene, scene.val, "val_copy.png")


def image_near_duplicate(scene: Scene) -> None:
    """train has an image twice, once a little brighter."""
    _add_copy(scene, scene.train, "train_copy.png")


def _add_copy(scene: Scene, document: dict, name: str) -> None:
    with Image.open(scene.image_path(2)) as image:
        image.point(lambda value: min(value + 4, 255)).save(scene.images_dir / name)
    document["images"].append({**scene.image(2), "id": 20, "file_name": name})
    document["annotations"].append(_outlined(900, 20, 1, scene.polygon(2)["segmentation"][0]))


# --- does it fit the training ------------------------------------------------------------------------------------


def instance_too_small(scene: Scene) -> None:
    """An object of 2 px lies in an image that is made smaller for training."""
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, 1600, 3), dtype=np.uint8)
    Image.fromarray(noise).save(scene.image_path())
    scene.image()["width"] = 1600
    others = [a for a in scene.train["annotations"] if a["image_id"] != 2]
    squares = [_outlined(900 + k, 2, k + 1, _square(5 + 100 * k, 5, 50)) for k in range(3)]
    scene.train["annotations"] = [*others, *squares, _outlined(990, 2, 1, _square(700, 20, 2))]


def too_many_instances(scene: Scene) -> None:
    """An image has 110 objects; 100 detections are kept."""
    others = [a for a in scene.train["annotations"] if a["image_id"] != 2]
    squares = [_outlined(900 + k, 2, k % 3 + 1, _square(2 + 7 * (k % 11), 2 + 5 * (k // 11), 4)) for k in range(110)]
    scene.train["annotations"] = others + squares


def anchors_miss_instances(scene: Scene) -> None:
    """A third of the objects is twenty times as wide as high."""
    for number in range(1, 7):
        annotation = scene.polygon(number)
        annotation["segmentation"] = [[2, 2, 62, 2, 62, 5, 2, 5]]
        del annotation["bbox"], annotation["area"]


def class_without_instances(scene: Scene) -> None:
    """Both files list a fourth category that nothing belongs to."""
    for document in (scene.train, scene.val):
        document["categories"].append({"id": 4, "name": "root"})


def class_in_one_file(scene: Scene) -> None:
    """val has no object of one of the categories."""
    scene.val["annotations"] = [a for a in scene.val["annotations"] if a["category_id"] != 3]


def image_without_annotations(scene: Scene) -> None:
    """An image has lost its annotations."""
    scene.train["annotations"] = [a for a in scene.train["annotations"] if a["image_id"] != 2]


def _square(x: float, y: float, side: float) -> list[float]:
    return [x, y, x + side, y, x + side, y + side, x, y + side]
