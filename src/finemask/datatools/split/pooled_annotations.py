"""The annotation files of several splits as one: every labelled image, to be divided anew."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from finemask.coco.coco_file import CocoDocument, load_coco
from finemask.datatools.split.split_images import SplitSource, read_source


def pooled_source(paths: Sequence[Path], name: Path) -> SplitSource:
    """Puts annotation files together; their images lie in the same folder.

    The ids of the first stay as they are. Ids of the others stay where they are free, or else take the next free ones;
    categories are matched by name.

    Args:
        paths: of the files; the first decides the order of the categories.
        name: what the whole is called in messages.

    Raises:
        DataError: a file that cannot be split; see ``read_source``.
    """
    documents = [read_source(path, load_coco(path)).document for path in paths]
    whole = documents[0]
    for document in documents[1:]:
        whole = _joined_documents(whole, document)
    return read_source(name, whole)


def _joined_documents(first: CocoDocument, second: CocoDocument) -> CocoDocument:
    by_name = {entry.get("name"): entry["id"] for entry in first["categories"]}
    unknown = [entry for entry in second["categories"] if entry.get("name") not in by_name]
    new_id = _free_ids(by_name.values())
    category_ids, categories = {}, list(first["categories"])
    for entry in second["categories"]:
        category_ids[entry["id"]] = by_name[entry["name"]] if entry not in unknown else new_id(entry["id"])
        if entry in unknown:
            categories.append({**entry, "id": category_ids[entry["id"]]})
    new_id = _free_ids(entry["id"] for entry in first["images"])
    image_ids = {entry["id"]: new_id(entry["id"]) for entry in second["images"]}
    images = [{**entry, "id": image_ids[entry["id"]]} for entry in second["images"]]
    new_id = _free_ids(entry["id"] for entry in first["annotations"] if isinstance(entry.get("id"), int))
    annotations = [
        {
            **entry,
            "id": new_id(entry.get("id")),
            "image_id": image_ids[entry["image_id"]],
            "category_id": category_ids[entry["category_id"]],
        }
        for entry in second["annotations"]
    ]
    return {
        **first,
        "images": [*first["images"], *images],
        "annotations": [*first["annotations"], *annotations],
        "categories": categories,
    }


def _free_ids(taken: Iterable[int]) -> Callable[[object], int]:
    """What gives an id that is free: the one that is wished for, or the next above all."""
    used = set(taken)
    highest = max(used, default=0)

    def free(wished: object) -> int:
        nonlocal highest
        number = wished if isinstance(wished, int) and wished not in used else int(highest) + 1
        used.add(number)
        highest = max(highest, number)
        return number

    return free
