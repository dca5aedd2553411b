import json

import pytest

from finemask.coco.coco_file import load_coco, save_coco
from finemask.errors import DataError

DOCUMENT = {"info": {"year": 2026}, "images": [{"id": 1, "camera": "é"}], "annotations": [], "categories": [{"id": 3}]}


def test_what_is_not_known_survives(tmp_path):
    path = tmp_path / "new" / "a.json"
    save_coco(path, DOCUMENT)
    assert json.loads(path.read_text(encoding="utf-8")) == DOCUMENT
    assert load_coco(path) == DOCUMENT


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
@pytest.mark.parametrize("value", [None, {}, [1], "x"])
def test_a_file_without_the_three_lists_is_refused(tmp_path, key, value):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(DOCUMENT | {key: value}))
    with pytest.raises(DataError, match=f"a.json.*{key}.*data check"):
        load_coco(path)


def test_a_list_is_no_document(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("[]")
    with pytest.raises(DataError, match="not a COCO annotation file"):
        load_coco(path)
