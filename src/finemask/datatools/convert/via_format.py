"""VGG Image Annotator 2.x: project or annotation JSON, and CSV; 1.x where regions are an object.

VIA knows no image sizes and no fixed place for the class: sizes are read off the images, the class is the value of
one region attribute, chosen by its name or by ``attribute=``.
"""

import csv
import json
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from finemask.datatools.convert.records import (
    Dataset,
    Instance,
    ellipse,
    is_polygon,
    names_used,
    number_categories,
    rectangle,
)
from finemask.datatools.convert.source_files import Source, split_of
from finemask.errors import DataError
from finemask.ops.files.documents import read_json

_USUAL = ("class", "label", "name", "category", "type", "object", "class_name", "object_class")
_NO_CLASS = "object"
_PARTS = ("shape_attributes", "region_attributes")


def read_via(source: Source) -> Dataset:
    """Reads VIA's JSON and CSV files of a folder, or one.

    Raises:
        DataError: a file that cannot be read; regions whose attributes leave open which one is the class.
    """
    entries = [(name, entry) for name in source.with_suffix(".json", ".csv") for entry in _entries(source, name)]
    attribute = source.options.attribute or _class_attribute(source, entries)
    images = []
    for name, entry in source.watch(entries, "reading regions"):
        split = split_of(name)
        path = source.find_image(entry["filename"], near=PurePosixPath(name).parent.as_posix(), split=split)
        record = source.record(entry["filename"], path, split=split)
        if record is not None:
            record.split = split or split_of(record.name)
            record.instances = list(_instances(source, entry, attribute))
            images.append(record)
    return Dataset(number_categories([*source.options.classes, *names_used(images)]), images)


def _entries(source: Source, name: str) -> Iterator[dict[str, Any]]:
    """One dictionary an image: ``filename`` and ``regions``, a list."""
    if name.lower().endswith(".csv"):
        yield from _csv_entries(source, name)
        return
    document = read_json(source.inside(name), "a VIA file")
    if isinstance(document, dict) and "_via_img_metadata" in document:
        document = document["_via_img_metadata"]
    if not isinstance(document, dict):
        return
    for entry in document.values():
        if isinstance(entry, dict) and isinstance(entry.get("filename"), str) and "regions" in entry:
            regions = entry["regions"]
            listed = list(regions.values()) if isinstance(regions, dict) else regions
            yield entry | {"regions": [_region(region) for region in listed] if isinstance(listed, list) else []}


def _region(region: Any) -> dict[str, Any]:
    """A region whose two parts are dictionaries."""
    parts = {key: region.get(key) if isinstance(region, dict) else None for key in _PARTS}
    return {key: part if isinstance(part, dict) else {} for key, part in parts.items()}


def _csv_entries(source: Source, name: str) -> Iterator[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    path = source.inside(name)
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#file"))
        for row in rows:
            row = {(key or "").lstrip("#"): value for key, value in row.items()}
            if not row.get("filename") or "region_shape_attributes" not in row:
                return
            entry = found.setdefault(row["filename"], {"filename": row["filename"], "regions": []})
            try:
                shape = json.loads(row["region_shape_attributes"] or "{}")
                attributes = json.loads(row.get("region_attributes") or "{}")
            except json.JSONDecodeError as error:
                raise DataError(f"line {rows.line_num}: broken JSON ({error.msg})", where=path) from None
            if shape:
                entry["regions"].append(_region({"shape_attributes": shape, "region_attributes": attributes}))
    yield from found.values()


def _class_attribute(source: Source, entries: list[tuple[str, dict[str, Any]]]) -> str | None:
    regions = [region for _, entry in entries for region in entry["regions"]]
    keys: list[str] = list(dict.fromkeys(key for region in regions for key in region["region_attributes"]))
    if not keys:
        return None
    usual = [key for wanted in _USUAL for key in keys if key.lower() == wanted]
    if usual or len(keys) == 1:
        chosen = usual[0] if usual else keys[0]
        if len(keys) > 1:
            others = ", ".join(key for key in keys if key != chosen)
            source.notes.add(
                f"regions whose attribute {chosen!r} is taken as the class, not {others}; attribute=NAME chooses"
            )
        return chosen
    raise DataError(
        f"regions have the attributes {', '.join(keys)}; which one is the class is not clear",
        where=source.path,
        remedy="Say attribute=NAME.",
    )


def _instances(source: Source, entry: dict[str, Any], attribute: str | None) -> Iterator[Instance]:
    for number, region in enumerate(entry["regions"], start=1):
        where = f"{entry['filename']}, region {number}"
        shape = region["shape_attributes"]
        kind = shape.get("name")
        if kind in ("point", "polyline", "line"):
            source.notes.add("points and lines left out, which have no area", where)
            continue
        category = _category(source, region["region_attributes"], attribute)
        if category is None:
            source.notes.add(f"regions without a value of the attribute {attribute!r} left out", where)
            continue
        try:
            instance = _instance(kind, shape, category)
        except (KeyError, TypeError, ValueError, OverflowError):
            instance = None
        if instance is None:
            source.notes.add("regions left out that cannot be read", f"{where} ({kind})")
        else:
            yield instance


def _category(source: Source, attributes: dict[str, Any], attribute: str | None) -> str | None:
    if attribute is None:
        return source.options.classes[0] if source.options.classes else _NO_CLASS
    value = attributes.get(attribute)
    if isinstance(value, dict):  # check boxes: those that are ticked
        value = "+".join(sorted(key for key, ticked in value.items() if ticked))
    return str(value).strip() or None if value is not None else None


def _instance(kind: object, shape: dict[str, Any], category: str) -> Instance | None:
    if kind == "rect":
        x, y, w, h = (float(shape[key]) for key in ("x", "y", "width", "height"))
        return Instance(category, [rectangle(x, y, x + w, y + h)], is_box=True)
    if kind == "circle":
        radius = float(shape["r"])
        return Instance(category, [ellipse(float(shape["cx"]), float(shape["cy"]), radius, radius)])
    if kind == "ellipse":
        cx, cy, rx, ry = (float(shape[key]) for key in ("cx", "cy", "rx", "ry"))
        return Instance(category, [ellipse(cx, cy, rx, ry, float(shape.get("theta") or 0))])
    if kind == "polygon":
        points = zip(shape["all_points_x"], shape["all_points_y"], strict=True)
        polygon = [float(value) for point in points for value in point]
        return Instance(category, [polygon]) if is_polygon(polygon) else None
    return None
