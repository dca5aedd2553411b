"""Datasets with everything that is hard to convert, and reading back what a conversion wrote."""

import json
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask
from scipy import ndimage

CATEGORIES = [
    {"id": 1, "name": "fig", "supercategory": "fruit"},
    {"id": 3, "name": "two words / slash", "supercategory": ""},
    {"id": 7, "name": "never used", "supercategory": "fruit"},
    {"id": 12, "name": "Müll", "supercategory": "x"},
    {"id": 90, "name": "12", "supercategory": ""},
]
USED = [1, 3, 12, 90]


def write_image(path, height, width, orientation=None, seed=0):
    """A picture of noise."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.random.default_rng(seed).integers(0, 255, (height, width, 3)).astype(np.uint8))
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    picture.save(path, exif=exif)
    return path


def write_json(path, value):
    """JSON with its folder."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def write_mask(path, values):
    """A lossless picture of numbers."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)
    return path


def blob(rng, height, width):
    """A random smooth mask: parts, holes, parts in holes, some at the border."""
    noise = cv2.GaussianBlur(rng.random((height, width)).astype(np.float32), (0, 0), rng.uniform(1.5, 5))
    mask = noise > np.quantile(noise, rng.uniform(0.5, 0.95))
    return mask if mask.any() else np.eye(height, width, dtype=bool)


def encode(mask):
    """Compressed RLE as JSON has it."""
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(mask.shape), "counts": rle["counts"].decode()}


def decode(segmentation, height, width):
    """A segmentation as bool [H, W], by pycocotools alone."""
    if isinstance(segmentation, list):
        rle = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        rle = coco_mask.frPyObjects(segmentation, height, width)
    else:
        rle = {"size": segmentation["size"], "counts": segmentation["counts"].encode()}
    return coco_mask.decode(rle).astype(bool)


def hard_coco(root, seed=0, splits=("train", "val")):
    """A COCO dataset in finemask's layout: random masks as RLE, polygons (of one and several parts), crowds, an image
    without objects, folders in file names, a class that nothing uses.
    """
    rng = np.random.default_rng(seed)
    for split in splits:
        images, annotations = [], []
        for number in range(4):
            height, width = (int(side) for side in rng.integers(40, 90, 2))
            image_id = 100 * (splits.index(split) + 1) + number
            name = f"{split}/day {number % 2}/{number:03d}.png"
            write_image(root / "images" / name, height, width, seed=image_id)
            images.append({"id": image_id, "file_name": name, "height": height, "width": width, "license": 4})
            for k in range(0 if number == 3 else 5):
                segmentation = (
                    encode(blob(rng, height, width)),
                    [polygon(rng, height, width)],
                    [polygon(rng, height, width), polygon(rng, height, width)],
                    [[0.0, 0.0, float(width), 0.0, float(width), float(height)]],
                    encode(blob(rng, height, width)),
                )[k]
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": image_id,
                        "category_id": USED[(number + k) % len(USED)],
                        "segmentation": segmentation,
                        "iscrowd": int(k == 4),
                    }
                )
        document = {"info": {"description": "hard"}, "licenses": [{"id": 4, "name": "CC BY"}], "images": images}
        document |= {"annotations": annotations, "categories": CATEGORIES}
        write_json(root / "annotations" / f"{split}.json", document)
    return root


def polygon(rng, height, width):
    """A star-shaped outline with fractions, inside the image."""
    angles = np.sort(rng.uniform(0, 2 * np.pi, 9))
    radius = rng.uniform(6, 18, 9)
    centre = rng.uniform(19, [width - 19, height - 19])
    points = centre + radius[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return points.ravel().tolist()


def read_back(root, split="train"):
    """What a conversion to COCO wrote.

    Returns:
        ``{image name without suffix: [(class, mask, crowd, annotation), …]}`` in the order of the file.
    """
    document = json.loads((root / "annotations" / f"{split}.json").read_text())
    names = {category["id"]: category["name"] for category in document["categories"]}
    found = {image["file_name"].rpartition(".")[0]: [] for image in document["images"]}
    images = {image["id"]: image for image in document["images"]}
    for annotation in document["annotations"]:
        image = images[annotation["image_id"]]
        size = image["height"], image["width"]
        mask = decode(annotation["segmentation"], *size) if annotation["segmentation"] else None
        entry = (names[annotation["category_id"]], mask, bool(annotation["iscrowd"]), annotation)
        found[image["file_name"].rpartition(".")[0]].append(entry)
    return found


def only(root, split="train"):
    """Class and mask of every instance of a set of one image."""
    (instances,) = read_back(root, split).values()
    return [(name, mask) for name, mask, _, _ in instances]


def boundary_loss_px(mask, other):
    """How far the pixels in which two masks differ are from the first mask's boundary, at most."""
    if not mask.any():
        return 0.0 if not other.any() else np.inf
    padded = np.pad(mask, 1)
    to_inside, to_outside = (ndimage.distance_transform_edt(values)[1:-1, 1:-1] for values in (~padded, padded))
    depth = np.where(mask, to_outside, to_inside) - 0.5  # of a pixel's middle beyond the edge
    return float(depth[mask != other].max(initial=0.0))
