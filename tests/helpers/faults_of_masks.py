"""Faults in masks, boxes and areas; each docstring says what is planted."""

import json

from scenes import HEIGHT, WIDTH, Scene

# --- masks -------------------------------------------------------------------------------------------------------


def iscrowd_invalid(scene: Scene) -> None:
    """iscrowd is '0', as text, and once 2."""
    scene.polygon()["iscrowd"] = "0"
    scene.compressed()["iscrowd"] = 2


def crowd_only(scene: Scene) -> None:
    """Every annotation of val is flagged as a crowd."""
    for annotation in scene.val["annotations"]:
        annotation["iscrowd"] = 1


def crowd_polygon(scene: Scene) -> None:
    """A polygon is flagged as a crowd."""
    scene.polygon()["iscrowd"] = 1


def crowd_single_object(scene: Scene) -> None:
    """Two masks of one piece each are flagged as crowds, as CVAT exports what is drawn with its brush."""
    scene.compressed(2)["iscrowd"] = scene.uncompressed(3)["iscrowd"] = 1


def mask_missing(scene: Scene) -> None:
    """An annotation has a box only."""
    del scene.polygon()["segmentation"]


def segmentation_invalid(scene: Scene) -> None:
    """segmentation is a word."""
    scene.polygon()["segmentation"] = "polygon"


def segmentation_text(scene: Scene) -> None:
    """Polygons are text of JSON, run lengths text of Python."""
    scene.polygon()["segmentation"] = json.dumps(scene.polygon()["segmentation"])
    scene.compressed()["segmentation"] = str(scene.compressed()["segmentation"])


def run_lengths_as_polygon(scene: Scene) -> None:
    """The counts of run lengths stand where a polygon belongs, once in a list."""
    scene.uncompressed(2)["segmentation"] = scene.uncompressed(2)["segmentation"]["counts"]
    scene.uncompressed(3)["segmentation"] = [scene.uncompressed(3)["segmentation"]["counts"]]


def segmentation_nesting(scene: Scene) -> None:
    """A polygon without the outer list, one as a list of points."""
    scene.polygon(2)["segmentation"] = scene.polygon(2)["segmentation"][0]
    numbers = iter(scene.polygon(3)["segmentation"][0])
    scene.polygon(3)["segmentation"] = [[list(point) for point in zip(numbers, numbers, strict=True)]]


def polygon_not_numbers(scene: Scene) -> None:
    """A coordinate is null; all of another polygon are text."""
    scene.polygon()["segmentation"][0][2] = None
    scene.polygon(3)["segmentation"] = [[str(value) for value in scene.polygon(3)["segmentation"][0]]]


def polygon_is_box(scene: Scene) -> None:
    """Four numbers beside a sound polygon, and instead of one."""
    scene.polygon(2)["segmentation"].append([1, 2, 30, 40])
    scene.polygon(3)["segmentation"] = [[1.0, 2.0, 30.0, 40.0]]


def polygon_odd(scene: Scene) -> None:
    """A polygon lost its last number."""
    scene.polygon()["segmentation"][0].pop()


def polygon_too_few_points(scene: Scene) -> None:
    """A single point beside a sound polygon."""
    scene.polygon()["segmentation"].append([3.0, 4.0])


def polygon_not_finite(scene: Scene) -> None:
    """A coordinate is NaN."""
    scene.polygon()["segmentation"][0][3] = float("nan")


def polygon_far_away(scene: Scene) -> None:
    """A coordinate is 400,000."""
    scene.polygon()["segmentation"][0][3] = 400_000


def polygon_no_area(scene: Scene) -> None:
    """Three points on one line beside a sound polygon."""
    scene.polygon()["segmentation"].append([1, 1, 5, 5, 9, 9])


def rle_size(scene: Scene) -> None:
    """The size of one is [width, height], that of another of some other image."""
    scene.compressed(2)["segmentation"]["size"] = [WIDTH, HEIGHT]
    scene.compressed(3)["segmentation"]["size"] = [HEIGHT + 1, WIDTH]


def rle_counts(scene: Scene) -> None:
    """Uncompressed counts are cut off; compressed ones are written as Python's b'…'."""
    scene.uncompressed()["segmentation"]["counts"].pop()
    rle = scene.compressed()["segmentation"]
    rle["counts"] = str(rle["counts"].encode())


def coordinates_normalised(scene: Scene) -> None:
    """val consists of polygons given as fractions of the image."""
    scene.val["annotations"] = [a for a in scene.val["annotations"] if a["category_id"] == 1]
    for k, annotation in enumerate(scene.val["annotations"]):
        polygon = annotation["segmentation"][0]
        polygon[0::2] = [x / WIDTH for x in polygon[0::2]]
        polygon[1::2] = [y / HEIGHT for y in polygon[1::2]]
        x, y, w, h = annotation["bbox"]
        annotation["bbox"] = [x / WIDTH, y / HEIGHT, w / WIDTH, h / HEIGHT]
        annotation["area"] /= WIDTH * HEIGHT
        annotation["category_id"] = k + 1  # every class stays in both files


def mask_empty(scene: Scene) -> None:
    """A polygon lies beside its image; run lengths hold no pixel."""
    polygon = scene.polygon()
    polygon["segmentation"] = [[x + 100 for x in polygon["segmentation"][0]]]
    scene.compressed()["segmentation"] = {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]}
    for annotation in (polygon, scene.compressed()):
        del annotation["bbox"], annotation["area"]


def polygon_outside(scene: Scene) -> None:
    """A polygon reaches 20 px out of its image."""
    annotation = scene.polygon()
    annotation["segmentation"][0][0] = -20.0
    del annotation["bbox"], annotation["area"]


def polygon_self_crossing(scene: Scene) -> None:
    """A polygon is drawn as a bow-tie."""
    annotation = scene.polygon()
    x0, y0, x1, y1, x2, y2, x3, y3 = annotation["segmentation"][0]
    annotation["segmentation"] = [[x0, y0, x2, y2, x1, y1, x3, y3]]
    del annotation["area"]


# --- boxes and areas ---------------------------------------------------------------------------------------------


def box_invalid(scene: Scene) -> None:
    """A box has three numbers, another holds NaN."""
    scene.polygon()["bbox"].pop()
    scene.compressed()["bbox"][2] = float("nan")


def box_corners(scene: Scene) -> None:
    """A box is [x1, y1, x2, y2]."""
    x, y, w, h = scene.compressed()["bbox"]
    scene.compressed()["bbox"] = [x, y, x + w, y + h]


def box_degenerate(scene: Scene) -> None:
    """A box has no height, another a negative width."""
    scene.compressed(2)["bbox"][3] = 0
    scene.compressed(3)["bbox"][2] = -4.0


def box_outside(scene: Scene) -> None:
    """A box begins 30 px left of its image."""
    scene.compressed()["bbox"][0] -= 100


def box_not_of_mask(scene: Scene) -> None:
    """The box of an object is that of another."""
    scene.polygon()["bbox"] = list(scene.compressed()["bbox"])


def area_invalid(scene: Scene) -> None:
    """An area is negative, another is text."""
    scene.polygon()["area"] = -1.0
    scene.compressed()["area"] = "large"


def area_not_of_mask(scene: Scene) -> None:
    """An area is that of the box of a triangle."""
    annotation = scene.polygon()
    annotation["segmentation"] = [annotation["segmentation"][0][:6]]
    annotation["area"] = annotation["bbox"][2] * annotation["bbox"][3]
