"""Faults in the structure of an annotation file, its ids, images and categories; docstrings say what is planted."""

import json

from scenes import Scene

# --- structure ---------------------------------------------------------------------------------------------------


def json_broken(scene: Scene) -> None:
    """The file is cut off in the middle."""
    scene.train = json.dumps(scene.train)[:500]


def json_not_coco(scene: Scene) -> None:
    """The list of categories is missing."""
    del scene.train["categories"]


def list_empty(scene: Scene) -> None:
    """val has no annotations."""
    scene.val["annotations"] = []


def entry_not_object(scene: Scene) -> None:
    """null among the images, a number among the annotations."""
    scene.train["images"].append(None)
    scene.train["annotations"].insert(2, 7)


def json_not_standard(scene: Scene) -> None:
    """NaN as a score of an annotation, half a character in the info."""
    scene.polygon()["score"] = float("nan")
    scene.train["info"] = {"by": "\ud800"}


# --- ids ---------------------------------------------------------------------------------------------------------


def image_id_invalid(scene: Scene) -> None:
    """An image and its annotations go by the name 'photo-2'."""
    for annotation in scene.train["annotations"]:
        if annotation["image_id"] == 2:
            annotation["image_id"] = "photo-2"
    scene.image(2)["id"] = "photo-2"


def category_id_invalid(scene: Scene) -> None:
    """A category has the id '3', as text; its annotations have the number."""
    scene.train["categories"][2]["id"] = "3"


def annotation_id_missing(scene: Scene) -> None:
    """Two annotations have no id."""
    del scene.polygon()["id"], scene.compressed()["id"]


def annotation_id_invalid(scene: Scene) -> None:
    """The id of an annotation is a list."""
    scene.polygon()["id"] = [5]


def image_id_repeated(scene: Scene) -> None:
    """An image is listed twice."""
    scene.train["images"].append(dict(scene.image(2)))


def category_id_repeated(scene: Scene) -> None:
    """A category is listed twice."""
    scene.train["categories"].append(dict(scene.train["categories"][1]))


def annotation_id_repeated(scene: Scene) -> None:
    """Two annotations have the same id."""
    scene.polygon(3)["id"] = scene.polygon(2)["id"]


def reference_not_integer(scene: Scene) -> None:
    """image_id is '2' instead of 2, category_id 2.0 instead of 2."""
    scene.polygon()["image_id"] = "2"
    scene.compressed()["category_id"] = 2.0


def annotation_without_image(scene: Scene) -> None:
    """An annotation is on image 99, which is not there."""
    scene.polygon()["image_id"] = 99


def annotation_without_category(scene: Scene) -> None:
    """An annotation is of category 99, which is not there."""
    scene.polygon()["category_id"] = 99


# --- images as the file describes them ---------------------------------------------------------------------------


def file_name_invalid(scene: Scene) -> None:
    """An image has no file_name."""
    del scene.image()["file_name"]


def file_name_leaves_folder(scene: Scene) -> None:
    """A file name begins with '../'."""
    scene.image()["file_name"] = "../secret/photo.png"


def file_name_repeated(scene: Scene) -> None:
    """Half of an image's annotations are under a second id."""
    scene.train["images"].append({**scene.image(2), "id": 7})
    scene.polygon(2)["image_id"] = 7


def image_size_invalid(scene: Scene) -> None:
    """An image has no height."""
    del scene.image()["height"]


# --- categories --------------------------------------------------------------------------------------------------


def category_name_invalid(scene: Scene) -> None:
    """A category of both files has an empty name."""
    for document in (scene.train, scene.val):
        document["categories"][1]["name"] = ""


def category_name_blanks(scene: Scene) -> None:
    """A category of both files is called 'nut '."""
    for document in (scene.train, scene.val):
        document["categories"][1]["name"] = "nut "


def category_name_repeated(scene: Scene) -> None:
    """Category 4 is called as category 2 is, and has one of its annotations."""
    scene.train["categories"].append({"id": 4, "name": "nut"})
    scene.compressed()["category_id"] = 4


def category_name_case(scene: Scene) -> None:
    """Both files have a category 'Leaf' besides 'leaf'."""
    for document in (scene.train, scene.val):
        document["categories"].append({"id": 4, "name": "Leaf"})
        next(a for a in document["annotations"] if a["category_id"] == 1)["category_id"] = 4


def categories_differ(scene: Scene) -> None:
    """val lists a category 'root', of which nothing is there."""
    scene.val["categories"].append({"id": 4, "name": "root"})


def category_ids_shifted(scene: Scene) -> None:
    """Annotations count categories from 0, the list of categories from 1."""
    for annotation in scene.train["annotations"]:
        annotation["category_id"] -= 1


def category_id_zero(scene: Scene) -> None:
    """Categories are numbered from 0."""
    _renumber(scene.train, {1: 0, 2: 1, 3: 2})


def category_id_gaps(scene: Scene) -> None:
    """Categories have the ids 1, 2 and 9."""
    _renumber(scene.train, {1: 1, 2: 2, 3: 9})


def _renumber(document: dict, ids: dict[int, int]) -> None:
    for category in document["categories"]:
        category["id"] = ids[category["id"]]
    for annotation in document["annotations"]:
        annotation["category_id"] = ids[annotation["category_id"]]


def category_background(scene: Scene) -> None:
    """A category of both files is called 'background'."""
    for document in (scene.train, scene.val):
        document["categories"][2]["name"] = "background"
