"""Runs the exported model beside this file without torch and finemask: pip install onnxruntime numpy pillow.

python THIS_FILE PHOTO ... prints a line of JSON for each photo; from Python: Model().find("photo.jpg").
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

MODEL = Path(__file__).with_name("model.onnx")
COLOURS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")  # Pillow's modes of 8 bits
AS_IT_IS = {"page": None, "range": "auto", "channels": None}


class Model:
    """Finds instances: the classes, their thresholds and the preparing of images are in the file."""

    def __init__(self, path: Any = MODEL, providers: Any = ("CPUExecutionProvider",)) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only
        self.session = onnxruntime.InferenceSession(str(path), options, providers=list(providers))
        self.header = json.loads(self.session.get_modelmeta().custom_metadata_map["finemask"])
        self.names = [category["name"] for category in self.header["categories"]]
        own = self.header["thresholds"]
        self.thresholds = np.array([own["per_class"].get(name, own["global"]) for name in self.names], np.float32)

    def find(self, image: Any, threshold: float | None = None) -> list[dict[str, Any]]:
        """The objects in an image, a path or uint8 RGB [H, W, 3], best first; masks are bool [H, W]."""
        pixels = image if isinstance(image, np.ndarray) else self.read(image)
        boxes, labels, scores, probs = self.session.run(["boxes", "labels", "scores", "masks"], {"image": pixels})
        kept = scores >= (self.thresholds[labels - 1] if threshold is None else np.float32(threshold))
        found = zip(boxes[kept], labels[kept], scores[kept], probs[kept], strict=True)
        return [
            {
                "class": self.names[label - 1],
                "score": float(score),
                "box": box,
                "mask": paste(prob, box, *pixels.shape[:2]),
            }
            for box, label, score, prob in found
        ]

    def read(self, path: Any) -> np.ndarray:
        """A file as in training, if that needed no choice of pages, ranges or channels."""
        image = Image.open(path)
        pages = getattr(image, "n_frames", 1) if image.format == "TIFF" else 1
        if image.mode not in COLOURS or pages > 1 or self.header["preprocessing"]["image"] != AS_IT_IS:
            raise SystemExit(f"{path}: finemask has to read this file; or give find() its pixels, uint8 RGB [H, W, 3]")
        return np.array(ImageOps.exif_transpose(image).convert("RGB"))


def paste(prob: np.ndarray, box: np.ndarray, height: int, width: int) -> np.ndarray:
    """Probabilities [M, M] inside a box, stretched over it: bool [height, width]."""
    side = len(prob) + 2  # a rim of zeros lets the edge fade out
    half, centre = (box[2:] - box[:2]) / 2 * np.float32(side / (side - 2)), (box[2:] + box[:2]) / 2
    (x1, y1), (x2, y2) = (centre - half).astype(int), (centre + half).astype(int)
    stretched = weights(y2 - y1 + 1, side) @ np.pad(prob, 1) @ weights(x2 - x1 + 1, side).T
    top, left = max(y1, 0), max(x1, 0)
    mask = np.zeros((height, width), bool)
    place = mask[top : y2 + 1, left : x2 + 1]
    place[:] = stretched[top - y1 :, left - x1 :][: place.shape[0], : place.shape[1]] > 0.5
    return mask


def weights(length: int, side: int) -> np.ndarray:
    """Bilinear interpolation from so many values to that length: float32 [length, side]."""
    at = np.clip((np.arange(length) + 0.5) * side / length - 0.5, 0, side - 1)
    return np.asarray(np.maximum(1 - np.abs(at[:, None] - np.arange(side)), 0), dtype=np.float32)


def run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """A mask as COCO's uncompressed run lengths."""
    edges = np.flatnonzero(np.diff(mask.ravel("F"), prepend=False))
    return {"size": list(mask.shape), "counts": np.diff([0, *edges, mask.size]).tolist()}


if __name__ == "__main__":
    model = Model()
    for name in sys.argv[1:]:
        objects = model.find(name)
        for one in objects:
            one |= {"box": one["box"].tolist(), "segmentation": run_lengths(one.pop("mask"))}
        print(json.dumps({"image": name, "objects": objects}))
