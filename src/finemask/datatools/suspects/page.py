"""The page on which a person looks at suspects and ticks those that are right."""

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from finemask.datatools.html_page import page
from finemask.datatools.suspects.find import RULES
from finemask.datatools.suspects.pictures import Pair
from finemask.ops.wording import plural

EYEBROW = "finemask data suspects"
"""In every page of this verb, so that nobody else's is written over."""

_ACTIONS = {
    "add-label": "Add the model's outline as a label",
    "change-class": "Change the class to",
    "replace-mask": "Replace the mask by the model's",
    "remove-label": "Remove annotation",
}


def suspects_page(
    content: Mapping[str, Any],
    pairs: Sequence[Pair | None],
    title: str,
    lines: Sequence[str],
    footer: Mapping[str, str],
) -> str:
    """Renders the page.

    Args:
        content: of ``suspects.json``.
        pairs: pictures of each of its suspects; None where the image could not be read.
        title: the heading.
        lines: sentences under it.
        footer: where everything comes from.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = files(__package__).joinpath("page.html.j2").read_text(encoding="utf-8")
    entries = content["suspects"]
    rules = [(rule, what, sum(entry["rule"] == rule for entry in entries)) for rule, what in RULES.items()]
    body = environment.from_string(template).render(
        lines=lines,
        rules=[row for row in rules if row[2]],
        items=[
            {"entry": entry, "pair": pair, "action": action(entry)} for entry, pair in zip(entries, pairs, strict=True)
        ],
        data=_as_script(content),
    )
    return page(title, Markup(body), eyebrow=EYEBROW, lead=_lead(len(entries)), footer=footer)


def action(entry: Mapping[str, Any]) -> str:
    """What accepting an entry does, in a few words."""
    change = entry["change"]
    words = _ACTIONS[change["action"]]
    if change["action"] == "change-class":
        return f"{words} {change['category']!r}"
    return f"{words} {change['annotation_id']}" if change["action"] == "remove-label" else words


def _lead(number: int) -> str:
    if not number:
        return "None of the labels is contradicted."
    suspects = plural(number, "label")
    return f"{suspects} that the model contradicts, the surest first. Tick those where the model is right, and save."


def _as_script(content: Mapping[str, Any]) -> Markup:
    """JSON that no text in it can end the script element of."""
    return Markup(json.dumps(content).replace("<", "\\u003c"))
