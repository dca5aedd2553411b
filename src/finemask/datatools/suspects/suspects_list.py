"""``suspects.json``: suspected labels, each with its correction; and the corrections that people accepted in it."""

import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from finemask.coco.entries import is_text, show, whole, whole_in_text
from finemask.coco.index import CocoIndex
from finemask.coco.segmentation import read_outlines
from finemask.datatools.check.document import Document, ImageRow
from finemask.datatools.check.problems import AddEntry, Edit, Finding, RemoveEntry, SetValue
from finemask.datatools.check.repair import Change, edited
from finemask.datatools.suspects.compared_images import SAME_OBJECT_IOU
from finemask.datatools.suspects.label_faults import RULES, Suspect
from finemask.errors import DataError
from finemask.ops.files.documents import read_json
from finemask.ops.rle import mask_iou, rle_area, rle_box_xywh

FORMAT = "finemask suspects 1"
ACTIONS = {
    "missing-label": "add-label",
    "wrong-class": "change-class",
    "loose-mask": "replace-mask",
    "duplicate-label": "remove-label",
}
"""The change that each rule suggests."""
_MOST_NAMED = 10  # of entries that do not fit, in one message
_JUDGED = ("image_id", "category_id", "iscrowd", "segmentation", "bbox")


def digest_of(entry: Mapping[str, Any]) -> str:
    """A hash of an annotation's image, category and outline: tells whether it is still what was judged."""
    seen = json.dumps([entry.get(key) for key in _JUDGED], sort_keys=True)
    return hashlib.sha256(seen.encode()).hexdigest()[:16]


def read_digests(annotations: Path) -> dict[int, str]:
    """The digest of every annotation of a COCO file, by id.

    Raises:
        DataError: an annotation has no id, or not its own: a suspicion could not name it.
    """
    digests: dict[int, str] = {}
    for entry in read_json(annotations, "a COCO annotation file")["annotations"]:
        number = entry.get("id")
        if number is None or int(number) in digests:
            raise DataError(
                "an annotation has no id" if number is None else f"the annotation id {number} is there twice",
                where=annotations,
                remedy=f"Each needs its own; to repair: finemask data check "
                f"{shlex.quote(f'annotations={annotations}')} fix=FIXED.json",
            )
        digests[int(number)] = digest_of(entry)
    return digests


def listing(suspects: Sequence[Suspect], index: CocoIndex, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The content of ``suspects.json``.

    Args:
        suspects: best first.
        index: that they were found in.
        facts: about the model, put on top.

    Raises:
        DataError: see ``read_digests``.
    """
    digests = read_digests(index.annotations_path)
    return {
        "format": FORMAT,
        "annotations": str(index.annotations_path),
        **facts,
        "rules": dict(RULES),
        "suspects": [_entry(number, suspect, index, digests) for number, suspect in enumerate(suspects, start=1)],
    }


def _entry(number: int, suspect: Suspect, index: CocoIndex, digests: Mapping[int, str]) -> dict[str, Any]:
    image = suspect.image
    ids = [int(image.label_ids[a]) for a in suspect.labels]
    return {
        "id": number,
        "accept": False,
        "rule": suspect.rule,
        "score": round(suspect.score, 4),
        "image_id": int(index.image_ids[image.position]),
        "file_name": index.columns.file_names[image.position],
        "annotation_ids": ids,
        "message": _message(suspect, index, ids),
        "detection": {
            "category": index.categories[suspect.label - 1].name,
            "score": round(float(image.scores[suspect.detection]), 4),
            "iou": None if suspect.iou is None else round(suspect.iou, 4),
        },
        "change": _change(suspect, index, ids),
        "seen": {str(k): digests[k] for k in ids},
    }


def _message(suspect: Suspect, index: CocoIndex, ids: Sequence[int]) -> str:
    image, names = suspect.image, [category.name for category in index.categories]
    seen = f"a {names[suspect.label - 1]!r} (score {image.scores[suspect.detection]:.2f})"
    if suspect.rule == "missing-label":
        return f"the model sees {seen} where no label is"
    if suspect.rule == "wrong-class":
        labelled = names[image.label_classes[suspect.labels[0]] - 1]
        return f"it is labelled {labelled!r}, the model sees {seen}, IoU {suspect.iou:.2f}"
    if suspect.rule == "loose-mask":
        return f"the model sees {seen} with an IoU of {suspect.iou:.2f}; usual is {suspect.usual_iou:.2f}"
    return f"it and annotation {ids[1]} have an IoU of {suspect.iou:.2f}, and the model sees one object there: {seen}"


def _change(suspect: Suspect, index: CocoIndex, ids: Sequence[int]) -> dict[str, Any]:
    change: dict[str, Any] = {"action": ACTIONS[suspect.rule]}
    if ids:
        change["annotation_id"] = ids[0]
    if suspect.rule in ("missing-label", "wrong-class"):
        change["category_id"] = index.category_ids[suspect.label - 1]
        change["category"] = index.categories[suspect.label - 1].name
    if suspect.rule in ("missing-label", "loose-mask"):
        rle = suspect.rle
        change |= {"bbox": rle_box_xywh(rle), "area": rle_area(rle), "segmentation": rle}
    return change


class _MisfitError(Exception):
    """An entry that does not fit the file, and why."""


def read_accepted(path: Path) -> list[dict[str, Any]]:
    """The entries of a list of suspects that a person marked with ``"accept": true``.

    Raises:
        DataError: it is no such list, or an entry of it is broken.
    """
    what = "a list of suspects, as finemask data suspects writes it,"
    content = read_json(path, what)
    entries = content.get("suspects") if isinstance(content, dict) and content.get("format") == FORMAT else None
    if not isinstance(entries, list):
        raise DataError(f"{what} was expected", where=path, remedy="Check suspects=")
    accepted = []
    for position, entry in enumerate(entries, start=1):
        if not isinstance(entry, dict) or not isinstance(entry.get("accept", False), bool):
            raise DataError(f"entry {position}: accept is true or false", where=path, remedy="Correct the entry")
        if entry.get("accept", False):
            change = entry.get("change")
            if not isinstance(change, dict) or ACTIONS.get(str(entry.get("rule"))) != change.get("action"):
                raise DataError(
                    f"entry {position} has rule {show(entry.get('rule'))} and no change that belongs to it",
                    where=path,
                    remedy=f"There is: {', '.join(f'{rule} with {action}' for rule, action in ACTIONS.items())}",
                )
            accepted.append(entry)
    return accepted


def apply_accepted(document: Document, accepted: list[dict[str, Any]], source: Path) -> tuple[Document, list[Change]]:
    """Makes the accepted changes, all of them or none.

    Args:
        document: the annotation file; left as it is.
        accepted: from ``read_accepted``.
        source: the list they come from, for messages.

    Returns:
        The changed file, and each change.

    Raises:
        DataError: entries that no longer fit the file; each is named with the reason.
    """
    findings, misfits = [], []
    touched: dict[int, str] = {}
    fitting = _Fitting(document)
    for entry in accepted:
        name = f"entry {show(entry.get('id'))} ({entry['rule']} on image {show(entry.get('image_id'))})"
        try:
            finding = fitting.finding(entry)
            if finding.annotation_id is not None and touched.setdefault(finding.annotation_id, name) != name:
                raise _MisfitError(f"{touched[finding.annotation_id]} changes annotation {finding.annotation_id} too")
        except _MisfitError as misfit:
            misfits.append(f"{name}: {misfit}")
        else:
            fitting.next_id += any(isinstance(edit, AddEntry) for edit in finding.edits)
            findings.append((str(entry["rule"]), finding))
    if misfits:
        more = [f"and {len(misfits) - _MOST_NAMED} more"] if len(misfits) > _MOST_NAMED else []
        raise DataError(
            f"accepted entries do not fit {document.path}: {'; '.join([*misfits[:_MOST_NAMED], *more])}",
            where=source,
            remedy="Set accept to false in them, or run finemask data suspects again. Nothing was written",
        )
    changes: list[Change] = []
    return edited(document, findings, changes) if findings else document, changes


class _Fitting:
    """Fits accepted entries to an annotation file: what each changes there.

    Args:
        document: the annotation file.
    """

    def __init__(self, document: Document) -> None:
        self._document = document
        self._positions: dict[int, list[int]] = {}
        for position, raw in document.objects("annotations"):
            if (number := whole(raw.get("id"))) is not None:
                self._positions.setdefault(number, []).append(position)
        self._images = {row.id: row for row in document.images}
        self._categories = {row.id: row for row in document.categories}
        self.next_id = max(self._positions, default=0) + 1

    def finding(self, entry: Mapping[str, Any]) -> Finding:
        """The change that an entry asks for, as an edit.

        Raises:
            _MisfitError: it does not fit the file, or not any more.
        """
        change = entry["change"]
        message = f"accepted: {entry.get('message') or RULES[entry['rule']]}"
        if change["action"] == "add-label":
            return self._added(entry, message)
        seen = self._annotations_seen(entry)
        number = whole(change.get("annotation_id"))
        if number is None or number not in seen:
            raise _MisfitError(
                f"its change names annotation {show(change.get('annotation_id'))}, not one of those seen"
            )
        position = seen[number]
        edits: tuple[Edit, ...] = (RemoveEntry("annotations", position),)
        if change["action"] == "change-class":
            edits = (SetValue("annotations", position, "category_id", self._category(change)),)
        elif change["action"] == "replace-mask":
            raw = self._document.raw["annotations"][position]
            values = _mask(change, self._image(whole(raw.get("image_id"))))
            edits = tuple(SetValue("annotations", position, key, value) for key, value in values.items())
        return Finding(message, self._document, whole(entry.get("image_id")), number, edits=edits)

    def _added(self, entry: Mapping[str, Any], message: str) -> Finding:
        document, change, image = self._document, entry["change"], self._image(whole(entry.get("image_id")))
        name = image.entry.get("file_name")
        if name != entry.get("file_name"):
            raise _MisfitError(f"image {image.id} is {show(name)}, not {show(entry.get('file_name'))}")
        category_id = self._category(change)
        mask = _mask(change, image)
        rows = [row for row in document.annotations_of.get(image.id, []) if row.rle is not None and not row.iscrowd]
        overlaps = mask_iou([mask["segmentation"]], [row.rle for row in rows if row.rle is not None])
        if rows and overlaps.max() >= SAME_OBJECT_IOU:
            raise _MisfitError(f"annotation {rows[int(overlaps.argmax())].id} labels this object now")
        new = {"id": self.next_id, "image_id": image.id, "category_id": category_id, **mask, "iscrowd": 0}
        return Finding(message, document, image.id, self.next_id, edits=(AddEntry("annotations", new),))

    def _annotations_seen(self, entry: Mapping[str, Any]) -> dict[int, int]:
        """Position of each annotation that the suspicion is about, by id; all must be what they were."""
        seen = entry.get("seen")
        if not isinstance(seen, dict) or not seen:
            raise _MisfitError("it does not say which annotations it is about")
        found: dict[int, int] = {}
        for key, digest in seen.items():
            number = whole_in_text(key)
            positions = [] if number is None else self._positions.get(number, [])
            if number is None or not positions:
                raise _MisfitError(f"annotation {key} is gone")
            if len(positions) > 1:
                raise _MisfitError(f"the annotation id {key} is there {len(positions)} times")
            if digest_of(self._document.raw["annotations"][positions[0]]) != digest:
                raise _MisfitError(f"annotation {key} has changed since")
            found[number] = positions[0]
        return found

    def _image(self, image_id: int | None) -> ImageRow:
        row = None if image_id is None else self._images.get(image_id)
        if row is None or self._document.is_ambiguous(row.id):
            raise _MisfitError(f"there is no image {show(image_id)}, or not one alone")
        return row

    def _category(self, change: Mapping[str, Any]) -> int:
        category_id, name = whole(change.get("category_id")), change.get("category")
        row = None if category_id is None else self._categories.get(category_id)
        if row is None:
            raise _MisfitError(f"there is no category {show(change.get('category_id'))}")
        if is_text(name) and row.name != name:
            raise _MisfitError(f"category {row.id} is {show(row.name)}, not {show(name)}")
        return row.id


def _mask(change: Mapping[str, Any], image: ImageRow) -> dict[str, Any]:
    """Segmentation, box and area; box and area are those of the pixels, whatever the entry says."""
    (outline,) = read_outlines([(change.get("segmentation"), image.height, image.width)])
    if outline.faults:
        raise _MisfitError(outline.faults[0].message)
    if outline.rle is None or outline.box_xyxy is None:
        raise _MisfitError("its mask has no pixel")
    x0, y0, x1, y1 = outline.box_xyxy
    return {"segmentation": change["segmentation"], "bbox": [x0, y0, x1 - x0, y1 - y0], "area": outline.area}


def refuse_to_lose(path: Path) -> None:
    """Refuses to write over a list in which entries are accepted.

    Raises:
        DataError: in this one they are, or the file is something else.
    """
    if path.exists() and (accepted := read_accepted(path)):
        raise DataError(
            f"{len(accepted)} of its entries are accepted, which would be lost",
            where=path,
            remedy="Choose another folder with output=, or move the list",
        )
