"""The header of a model file: configuration, categories, preprocessing, thresholds, metrics; and its JSON."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import version
from typing import Any

from finemask.errors import ConfigError
from finemask.ops.images.image_look import FEATURES, LooksOfASet
from finemask.ops.images.image_reading import AS_THE_FILE_SAYS, ImageReading
from finemask.types import Category, Preprocessing

FORMAT_VERSION = 1
DEFAULT_THRESHOLD = 0.5
_PACKAGES = ("finemask", "torch", "torchvision")
POINTS = ("best_f1", "precision_90", "recall_90")  # operating points that a file may hold thresholds of


@dataclass(frozen=True, slots=True)
class TrainingSizes:
    """How large the training images and their objects were, before augmentation.

    An object's side is the root of its box's area.

    Args:
        images_px: longer side of the smallest, the median and the largest image, px.
        scale: least, median and greatest factor that the model resizes them by, as in prediction.
        objects_px: 5th, 50th and 95th percentile of the objects' sides, px of the image file.
        objects_seen_px: the same in px of the resized image, as the model sees them.
    """

    images_px: tuple[int, int, int]
    scale: tuple[float, float, float]
    objects_px: tuple[float, float, float]
    objects_seen_px: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class ModelHeader:
    """Everything needed to rebuild and to judge a model.

    Args:
        model: configuration that ``build_model`` takes, plain JSON values only.
        categories: in training order; the label of a category is its position plus one.
        preprocessing: what the model does to an image.
        reading: what is read from image files before that.
        thresholds: score thresholds 0..1 chosen on validation data,
            ``{"global": t, "per_class": {NAME: t}}``; None stands for unknown and is dropped. Under ``points`` there
            may be the same again for each of ``POINTS``; files written before finemask knew them have none.
        metrics: the content of the run's ``metrics.json``, or as much of it as is known.
        data_fingerprint: of the training annotations.
        training_sizes: of the training images and objects; None where there were no objects, and in files written
            before finemask noted them.
        training_looks: what the training images look like; None where there were too few, and in files written before
            finemask noted it.
        held_out: the part of the training images it was not trained on, such as ``1/2``; empty: none.
        versions: package name to version, of where the model was made.
        licenses: what the weights and data were derived from, as plain notes: name to note.
        format_version: of the file format.
        sha256: of the tensor bytes; filled in on saving.
    """

    model: Mapping[str, Any]
    categories: Sequence[Category]
    preprocessing: Preprocessing
    reading: ImageReading = AS_THE_FILE_SAYS
    thresholds: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    data_fingerprint: str = ""
    training_sizes: TrainingSizes | None = None
    training_looks: LooksOfASet | None = None
    held_out: str = ""
    versions: Mapping[str, str] = field(default_factory=lambda: {name: version(name) for name in _PACKAGES})
    licenses: Mapping[str, str] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION
    sha256: str = ""

    def __post_init__(self) -> None:
        thresholds = {"global": DEFAULT_THRESHOLD} | _thresholds(self.thresholds)
        if points := self.thresholds.get("points"):
            thresholds["points"] = {str(name): _thresholds(_mapping(at, "a point")) for name, at in points.items()}
        object.__setattr__(self, "thresholds", thresholds)
        object.__setattr__(self, "categories", tuple(self.categories))

    def threshold_of(self, name: str) -> float:
        """The threshold of a category: its own where there is one, else the global one."""
        return float(self.thresholds["per_class"].get(name, self.thresholds["global"]))

    def thresholds_at(self, point: str) -> dict[str, float] | None:
        """The threshold of each category at one of ``POINTS``.

        A category that reached the point nowhere in validation has the threshold at which all of them together did.

        Returns:
            By category name; None if the file holds no such point, or if it was reached by none.
        """
        chosen = self.thresholds.get("points", {}).get(point) or {"per_class": {}}
        found = {c.name: chosen["per_class"].get(c.name, chosen.get("global")) for c in self.categories}
        return None if None in found.values() else found


def header_to_json(header: ModelHeader) -> dict[str, Any]:
    """Plain JSON values; ``header_from_json`` gives an equal header back."""
    plain = {of.name: getattr(header, of.name) for of in fields(header) if of.name != "reading"}
    sizes, looks = header.training_sizes, header.training_looks
    return plain | {
        "categories": [category._asdict() for category in header.categories],
        "preprocessing": _listed(header.preprocessing) | {"image": header.reading.to_json()},
        "training_sizes": None if sizes is None else _listed(sizes),
        "training_looks": None if looks is None else _listed(looks),
    }


def header_from_json(content: Mapping[str, Any]) -> ModelHeader:
    """Reads what ``header_to_json`` gives.

    Raises:
        ValueError: a value that cannot be meant: no category, a name twice, a threshold outside 0..1.
        KeyError: a key is missing.
        TypeError: a value of the wrong kind.
    """
    categories = tuple(
        Category(int(entry["id"]), str(entry["name"]), str(entry.get("supercategory", "")))
        for entry in content["categories"]
    )
    names = [category.name for category in categories]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"categories must be named, each once, not {names}")
    preprocessing = content["preprocessing"]
    return ModelHeader(
        format_version=int(content["format_version"]),
        model=_mapping(content["model"], "model"),
        categories=categories,
        preprocessing=Preprocessing(
            min_size=tuple(int(side) for side in preprocessing["min_size"]),
            max_size=int(preprocessing["max_size"]),
            image_mean=_three(preprocessing["image_mean"]),
            image_std=_three(preprocessing["image_std"]),
            clahe=float(preprocessing.get("clahe", 0.0)),
        ),
        reading=_reading(preprocessing.get("image")),  # files written before finemask knew it have none
        thresholds=_mapping(content["thresholds"], "thresholds"),
        metrics=_mapping(content["metrics"], "metrics"),
        data_fingerprint=str(content["data_fingerprint"]),
        training_sizes=_training_sizes(content.get("training_sizes")),
        training_looks=_training_looks(content.get("training_looks")),
        held_out=str(content.get("held_out", "")),
        versions={str(key): str(value) for key, value in content["versions"].items()},
        licenses={str(key): str(value) for key, value in content["licenses"].items()},
        sha256=str(content["sha256"]),
    )


def _listed(holder: Preprocessing | TrainingSizes | LooksOfASet) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(holder).items()}


def _training_sizes(content: Any) -> TrainingSizes | None:
    if content is None:
        return None
    values = {of.name: _three(_mapping(content, "training_sizes")[of.name]) for of in fields(TrainingSizes)}
    for name, three in values.items():
        if not (0 < three[0] <= three[1] <= three[2] < math.inf):
            raise ValueError(f"{name} must be three ascending sizes, not {three}")
    least, median, most = map(round, values.pop("images_px"))
    return TrainingSizes((least, median, most), **values)


def _training_looks(content: Any) -> LooksOfASet | None:
    if content is None:
        return None
    values = _mapping(content, "training_looks")
    spread, *looks = (tuple(map(float, row)) for row in (values["spread"], *values["looks"]))
    limit = float(values["limit"])
    if not looks or any(len(row) != len(FEATURES) or not all(map(math.isfinite, row)) for row in (spread, *looks)):
        raise ValueError(f"training_looks must hold rows of {len(FEATURES)} numbers")
    if min(spread) <= 0 or not 0 < limit < math.inf:
        raise ValueError("spread and limit of training_looks must be above 0")
    return LooksOfASet(spread, tuple(looks), limit)


def _reading(value: Any) -> ImageReading:
    try:
        return ImageReading.of(None if value is None else _mapping(value, "the image of its preprocessing"))
    except ConfigError as error:
        raise ValueError(str(error)) from None


def _mapping(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{name} must be a mapping, not {type(value).__name__}")
    return value


def _thresholds(content: Mapping[str, Any]) -> dict[str, Any]:
    """The global threshold, where there is one, and those of the classes that have one."""
    overall, per_class = content.get("global"), content.get("per_class") or {}
    return ({} if overall is None else {"global": _fraction(overall)}) | {
        "per_class": {str(name): _fraction(value) for name, value in per_class.items() if value is not None}
    }


def _fraction(value: Any) -> float:
    number = float(value)
    if not (math.isfinite(number) and 0 <= number <= 1):
        raise ValueError(f"a threshold must be within 0..1, not {value}")
    return number


def _three(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
