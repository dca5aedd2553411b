"""``categories.json``: COCO's list of categories beside formats that know only names, or only numbers.

finemask writes it, so that ids, order, supercategories and classes without objects come back when it reads.
"""

import json

from finemask.datatools.convert.source import Source
from finemask.ops.json_file import read_json
from finemask.types import Category

NAME = "categories.json"


def categories_text(categories: list[Category]) -> str:
    """The file's content."""
    return json.dumps({"categories": [category._asdict() for category in categories]}, indent=1, ensure_ascii=False)


def read_categories(source: Source) -> list[Category]:
    """The categories beside a source; none if there is no such file, or something else of that name."""
    if NAME not in source.files:
        return []
    document = read_json(source.inside(NAME), "a list of categories")
    entries = document.get("categories") if isinstance(document, dict) else None
    try:
        return [
            Category(int(entry["id"]), str(entry["name"]), str(entry.get("supercategory") or ""))
            for entry in entries or []
        ]
    except (TypeError, KeyError, ValueError, AttributeError):
        return []
