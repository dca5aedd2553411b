"""The page on which a person looks at suspects and ticks those that are right."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from finemask.coco.index import CocoIndex
from finemask.datatools.suspects.label_faults import RULES, Suspect
from finemask.ops.colours import VERDICTS
from finemask.ops.images.window_reader import ArrayReader, WindowReader
from finemask.ops.rle import rle_box_xywh
from finemask.ops.wording import plural
from finemask.pages.instance_pictures import ColouredInstance, picture_of
from finemask.pages.shell import page, templates

EYEBROW = "finemask data suspects"
"""In every page of this verb, so that nobody else's is written over."""

_CONTEXT = 1.5  # a picture's side in sides of what it shows
_ACTIONS = {
    "add-label": "Add the model's outline as a label",
    "change-class": "Change the class to",
    "replace-mask": "Replace the mask by the model's",
    "remove-label": "Remove annotation",
}


def suspects_page(
    content: Mapping[str, Any],
    views: Sequence[Sequence[tuple[str, str]] | None],
    title: str,
    lines: Sequence[str],
    footer: Mapping[str, str],
) -> str:
    """Renders the page.

    Args:
        content: of ``suspects.json``.
        views: pictures of each of its suspects, see ``draw_suspects``; None where the image could not be read.
        title: the heading.
        lines: sentences under it.
        footer: where everything comes from.
    """
    entries = content["suspects"]
    rules = [(rule, what, sum(entry["rule"] == rule for entry in entries)) for rule, what in RULES.items()]
    body = (
        templates(__package__)
        .get_template("suspects.html.j2")
        .render(
            lines=lines,
            rules=[row for row in rules if row[2]],
            items=[(entry, shown, action(entry)) for entry, shown in zip(entries, views, strict=True)],
            data=Markup(json.dumps(content).replace("<", "\\u003c")),  # no text in it can end the script element
        )
    )
    lead = "None of the labels is contradicted."
    if entries:
        lead = f"{plural(len(entries), 'label')} that the model contradicts, the surest first. "
        lead += "Tick those where the model is right, and save."
    return page(title, Markup(body), eyebrow=EYEBROW, lead=lead, footer=footer)


def action(entry: Mapping[str, Any]) -> str:
    """What accepting an entry does, in a few words."""
    change = entry["change"]
    words = _ACTIONS[change["action"]]
    if change["action"] == "change-class":
        return f"{words} {change['category']!r}"
    return f"{words} {change['annotation_id']}" if change["action"] == "remove-label" else words


def draw_suspects(index: CocoIndex, suspects: Sequence[Suspect]) -> list[list[tuple[str, str]]]:
    """Two pictures of each suspect of one image: what is labelled, and what the model sees.

    Args:
        index: that they were found in.
        suspects: at least one; all on the same image.

    Returns:
        Of each suspect, pairs of what a picture shows and its ``data:`` address.

    Raises:
        DataError: the image cannot be read.
    """
    pixels = ArrayReader(index.read_image(suspects[0].image.position))
    names = {number: category.name for number, category in enumerate(index.categories, start=1)}
    return [_views(pixels, suspect, names) for suspect in suspects]


def _views(pixels: WindowReader, suspect: Suspect, names: Mapping[int, str]) -> list[tuple[str, str]]:
    image = suspect.image
    boxes = np.array([rle_box_xywh(rle) for rle in (suspect.rle, *(image.label_rles[n] for n in suspect.labels))])
    low, high = boxes[:, :2].min(axis=0), (boxes[:, :2] + boxes[:, 2:]).max(axis=0)
    around = [*low.tolist(), *(high - low).tolist()]
    doubt = "wrong-class" if suspect.rule == "wrong-class" else "false"
    labelled = [
        ColouredInstance(
            {"segmentation": image.label_rles[n], "category_id": int(image.label_classes[n])},
            VERDICTS[doubt if n in suspect.labels[:1] else "found"],  # of a duplicate the first is to go
        )
        for n in suspect.labels or range(len(image.label_ids))  # where a label is missing: whatever is around
    ]
    score = float(image.scores[suspect.detection])
    seen = {"segmentation": suspect.rle, "category_id": suspect.label, "score": score}
    sides = {
        "as labelled": labelled,
        "as the model sees it": [ColouredInstance(seen, VERDICTS["found" if suspect.labels else "missed"])],
    }
    return [
        (side, picture_of(pixels, drawn, names, around, context=_CONTEXT, framed=False))
        for side, drawn in sides.items()
    ]
