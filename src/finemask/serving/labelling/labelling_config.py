"""A Label Studio project's labelling configuration: which of its labels are the model's classes, and what they draw."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

from finemask.errors import DataError
from finemask.ops.files.documents import parse_xml
from finemask.ops.wording import names

Kind: TypeAlias = Literal["brushlabels", "polygonlabels", "rectanglelabels"]
_KINDS = ("brushlabels", "polygonlabels", "rectanglelabels")
_MASKS = _KINDS[:2]
_TAGS = "BrushLabels, PolygonLabels or RectangleLabels"


@dataclass(frozen=True, slots=True)
class DrawnLabel:
    """A label that instances of a class are given.

    Args:
        kind: of the tag it stands in, which says what is drawn: a mask, outlines or a box.
        from_name: name of that tag.
        to_name: name of the tag of the image.
        label: as the project writes it.
        image_key: where the image stands in the data of a task.
    """

    kind: Kind
    from_name: str
    to_name: str
    label: str
    image_key: str


@dataclass(frozen=True, slots=True)
class LabelMatch:
    """The labels of a project beside the classes of a model.

    Args:
        of_class: the label of each class that has one.
        unlabelled: classes that the project has no label for: their instances are left out.
        unknown: labels of the project that are no class of the model.
    """

    of_class: Mapping[str, DrawnLabel]
    unlabelled: Sequence[str]
    unknown: Sequence[str]

    def in_words(self) -> str | None:
        """What does not match; None if all does."""
        parts = []
        if self.unlabelled:
            parts.append(f"the project has no label for {names(self.unlabelled)}, which the model finds: left out")
        if self.unknown:
            parts.append(f"the model does not know {names(self.unknown)}")
        return "; ".join(parts) or None


def match_labels(label_config: str, class_names: Sequence[str]) -> LabelMatch:
    """Finds the label of each class: by its name, or by ``predicted_values`` of a ``Label``.

    Names are compared as they are, then without regard to case and to spaces around. Where several tags have the label,
    one that draws masks is taken before one that draws boxes, and of these the first.

    Args:
        label_config: XML, as Label Studio sends it.
        class_names: of the model.

    Raises:
        DataError: it is no such XML, or no class has a label.
    """
    root = parse_xml(label_config.encode(), "label_config", "the labelling configuration of a project")
    images = {tag.get("name", ""): _key(tag.get("value", "")) for tag in root.iter() if tag.tag.lower() == "image"}
    found = [
        (name, DrawnLabel(kind, tag.get("name", ""), to_name, label, images[to_name]))
        for kind, tag in _controls(root)
        if (to_name := tag.get("toName", "")) in images
        for child in tag.iter()
        if child.tag.lower() == "label" and (label := child.get("value", ""))
        for name in [label, *(part.strip() for part in child.get("predicted_values", "").split(",") if part.strip())]
    ]
    exact: dict[str, DrawnLabel] = {}
    loose: dict[str, DrawnLabel] = {}
    for name, of_name in sorted(found, key=lambda one: one[1].kind not in _MASKS):
        exact.setdefault(name, of_name)
        loose.setdefault(_plain(name), of_name)
    of_class = {
        name: drawn for name in class_names if (drawn := exact.get(name) or loose.get(_plain(name))) is not None
    }
    labels = list(dict.fromkeys(drawn.label for _, drawn in found))
    used = {drawn.label for drawn in of_class.values()}
    if not of_class:
        has = f"its labels are {names(labels)}" if labels else f"it has no {_TAGS} of an Image"
        raise DataError(
            f"the project has no label for any class of the model: {has}; the model finds {names(class_names)}",
            where="label_config",
            remedy='Name labels as the classes, or say predicted_values="CLASS" in a Label.',
        )
    return LabelMatch(
        of_class=of_class,
        unlabelled=[name for name in class_names if name not in of_class],
        unknown=[label for label in labels if label not in used],
    )


def _controls(root: Any) -> Iterator[tuple[Kind, Any]]:
    for tag in root.iter():
        if (kind := tag.tag.lower()) in _KINDS:
            yield cast(Kind, kind), tag


def _key(value: str) -> str:
    """``$image`` names the entry ``image`` of a task's data."""
    return value.removeprefix("$")


def _plain(name: str) -> str:
    return name.strip().casefold()
