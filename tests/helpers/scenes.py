"""A small clean dataset made by code, to be spoilt by the faults of ``faults``."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

HEIGHT, WIDTH = 60, 80
CLASSES = ("leaf", "nut", "stem")


@dataclass
class Scene:
    """Two annotation files over one folder of images, to be spoilt.

    ``train`` has six images, each with a polygon (a leaf), a compressed RLE (a nut) and an uncompressed RLE (a stem);
    image 1 has a crowd besides. ``val`` has three such images.
    """

    root: Path
    train: dict
    val: dict

    @property
    def images_dir(self) -> Path:
        return self.root / "images"

    @property
    def paths(self) -> list[Path]:
        return [self.root / "annotations" / f"{name}.json" for name in ("train", "val")]

    def polygon(self, number: int = 2) -> dict:
        """The annotation with a polygon of image ``number`` (1..6)."""
        return self._first("annotations", image_id=number, category_id=1)

    def compressed(self, number: int = 2) -> dict:
        """The annotation with a compressed RLE of an image."""
        return self._first("annotations", image_id=number, category_id=2)

    def uncompressed(self, number: int = 2) -> dict:
        """The annotation with an uncompressed RLE of an image."""
        return self._first("annotations", image_id=number, category_id=3)

    def image(self, number: int = 2) -> dict:
        """The entry of an image of train."""
        return self._first("images", id=number)

    def _first(self, name: str, **wanted: int) -> dict:
        entries = (entry for entry in self.train[name] if isinstance(entry, dict))
        return next(entry for entry in entries if all(entry.get(key) == value for key, value in wanted.items()))

    def image_path(self, number: int = 2) -> Path:
        return self.images_dir / self.image(number)["file_name"]

    def write(self) -> list[Path]:
        """Writes both annotation files as they are now."""
        for path, document in zip(self.paths, (self.train, self.val), strict=True):
            path.parent.mkdir(exist_ok=True)
            path.write_text(document if isinstance(document, str) else json.dumps(document))
        return self.paths


def clean_scene(root: Path) -> Scene:
    """A dataset in which no rule finds anything."""
    (root / "images").mkdir(parents=True)
    scene = Scene(root, _document(root, range(1, 7), "train"), _document(root, range(11, 14), "val"))
    scene.write()
    return scene


def _document(root: Path, numbers: range, split: str) -> dict:
    images, annotations = [], []
    for number in numbers:
        rng = np.random.default_rng(number)
        name = f"{split}_{number}.png"
        # Large blocks of random grey, so that no two images look alike; the objects are drawn on top.
        picture = np.kron(rng.integers(0, 256, (6, 8)), np.ones((10, 10))).astype(np.uint8)
        dx, dy = (int(v) for v in rng.integers(0, 6, 2))
        nut, stem = np.zeros((2, HEIGHT, WIDTH), dtype=np.uint8)
        nut[5 + dy : 25 + dy, 40 + dx : 66 + dx] = 1
        stem[34 + dy : 52 + dy, 6 + dx : 24 + dx] = 1
        stem[40 + dy : 46 + dy, 12 + dx : 18 + dx] = 0  # a hole
        polygon = [5.0 + dx, 5.0 + dy, 27.0 + dx, 7.0 + dy, 30.0 + dx, 25.0 + dy, 8.0 + dx, 27.0 + dy]
        masks = [_of_polygon(polygon), nut, stem]
        segmentations = [[polygon], _compressed(nut), _uncompressed(stem)]
        if number == 1:
            crowd = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
            crowd[36:54, 40:72:3] = 1
            masks.append(crowd)
            segmentations.append(_uncompressed(crowd))
        for mask, grey in zip(masks, (250, 5, 250, 5), strict=False):
            picture[mask > 0] = grey
        Image.fromarray(np.stack([picture, picture.T.reshape(HEIGHT, WIDTH), picture], axis=-1)).save(
            root / "images" / name
        )
        images.append({"id": number, "file_name": name, "height": HEIGHT, "width": WIDTH})
        for k, (mask, segmentation) in enumerate(zip(masks, segmentations, strict=True)):
            ys, xs = np.nonzero(mask)
            box = [xs.min(), ys.min(), xs.max() + 1 - xs.min(), ys.max() + 1 - ys.min()]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": min(k, 2) + 1,
                    "segmentation": segmentation,
                    "bbox": [float(v) for v in box],
                    "area": int(mask.sum()),
                    "iscrowd": int(k == 3),
                }
            )
    categories = [{"id": k + 1, "name": name, "supercategory": "plant"} for k, name in enumerate(CLASSES)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _of_polygon(polygon: list[float]) -> np.ndarray:
    return coco_mask.decode(coco_mask.frPyObjects([polygon], HEIGHT, WIDTH)[0])


def _compressed(mask: np.ndarray) -> dict:
    rle = coco_mask.encode(np.asfortranarray(mask))
    return {"size": list(mask.shape), "counts": rle["counts"].decode()}


def _uncompressed(mask: np.ndarray) -> dict:
    flat = mask.ravel(order="F")
    edges = np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1, [flat.size]])
    counts = np.diff(edges).tolist()
    return {"size": list(mask.shape), "counts": counts if flat[0] == 0 else [0, *counts]}
