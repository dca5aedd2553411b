"""The answers of the server as JSON: what each field means stands here, and goes into ``/openapi.json`` from here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from finemask.inference.instances import Instances
from finemask.inference.score_limits import Threshold, score_limits
from finemask.model_header import ModelHeader
from finemask.ops.contours import mask_to_polygons
from finemask.ops.rle import rle_area, rle_to_crop
from finemask.serving.image_service import Found

Masks: TypeAlias = Literal["polygon", "rle", "none"]
_DECIMALS = 2  # of coordinates in px


def _means(description: str) -> dict[str, str]:
    return {"description": description}


@dataclass(frozen=True)
class ImageFacts:
    """The image that was sent."""

    name: str | None = field(metadata=_means("Name of the file, if the request gave one."))
    width: int = field(metadata=_means("Pixels of the picture as it is shown: an EXIF orientation is applied."))
    height: int = field(metadata=_means("Pixels, likewise."))
    drift: float | None = field(
        default=None, metadata=_means("How unlike the training images it is; above 1 it is. null: not known.")
    )


@dataclass(frozen=True)
class AppliedThreshold:
    """Scores from which on instances are reported: one for all classes, or one of each."""

    value: float | None = field(metadata=_means("Of all classes; null where they differ."))
    per_class: dict[str, float] | None = field(metadata=_means("Of each class, by name; null where they are the same."))


@dataclass(frozen=True)
class CompressedMask:
    """A mask as COCO's compressed RLE, which pycocotools decodes."""

    size: tuple[int, int] = field(metadata=_means("Height and width of the image."))
    counts: str = field(metadata=_means("The run lengths."))


@dataclass(frozen=True)
class FoundInstance:
    """An object that was found."""

    id: int = field(metadata=_means("From 1 on, best score first."))
    category_id: int = field(metadata=_means("Id of its class in the annotations of training."))
    category: str = field(metadata=_means("Name of its class."))
    score: float = field(metadata=_means("From 0 to 1."))
    box: tuple[float, float, float, float] = field(metadata=_means("Left, top, right, bottom in px."))
    area: int = field(metadata=_means("Pixels of its mask."))
    polygons: list[list[float]] | None = field(
        default=None,
        metadata=_means("With masks=polygon: rings [x1, y1, x2, y2, …] in px; fill them by even and odd."),
    )
    segmentation: CompressedMask | None = field(default=None, metadata=_means("With masks=rle."))


@dataclass(frozen=True)
class Timings:
    """Milliseconds that the answer took."""

    queue: float = field(metadata=_means("Waited for the model."))
    model: float = field(metadata=_means("In the model."))
    total: float = field(metadata=_means("From the head of the request to the answer."))


@dataclass(frozen=True)
class Prediction:
    """What was found in an image."""

    image: ImageFacts
    threshold: AppliedThreshold
    instances: list[FoundInstance]
    warnings: list[str] = field(metadata=_means("What may be wrong with the answer, in words."))
    timings_ms: Timings


@dataclass(frozen=True)
class Problem:
    """Why there is no answer."""

    code: str = field(metadata=_means("A word for programs, such as image-too-large."))
    message: str = field(metadata=_means("What is wrong and what to do about it, for people."))


@dataclass(frozen=True)
class ErrorAnswer:
    """Every answer that is none."""

    error: Problem


@dataclass(frozen=True)
class Status:
    """How the server is."""

    status: str = field(metadata=_means("ok, ready, starting, stopping or failed."))


@dataclass(frozen=True)
class CategoryFacts:
    """A class that the model knows."""

    id: int = field(metadata=_means("In the annotations of training."))
    name: str
    colour: str = field(metadata=_means("#rrggbb, as on overlays coloured by class."))


@dataclass(frozen=True)
class Limits:
    """What may be sent."""

    max_bytes: int = field(metadata=_means("Of the body of a request."))
    max_pixels: int = field(metadata=_means("Of an image."))
    queue_size: int = field(metadata=_means("Images that may wait."))
    timeout_s: float = field(metadata=_means("Seconds in which a request is answered."))
    urls: bool = field(metadata=_means("Whether images are fetched from addresses."))


@dataclass(frozen=True)
class ModelFacts:
    """The model behind the server."""

    name: str
    categories: list[CategoryFacts]
    thresholds: dict[str, Any] = field(metadata=_means("Of the model file: global, and per_class by name."))
    threshold: AppliedThreshold = field(metadata=_means("What threshold=auto means here."))
    metrics: dict[str, Any] = field(metadata=_means("Of the model's validation."))
    preprocessing: dict[str, Any] = field(metadata=_means("What the model does to an image."))
    device: str
    versions: dict[str, str] = field(metadata=_means("Packages the model was made with; server: what serves it."))
    limits: Limits


def applied_threshold(header: ModelHeader, threshold: Threshold) -> AppliedThreshold:
    """The scores that a threshold comes to."""
    limits = dict(score_limits(header, threshold))
    if len(set(limits.values())) == 1:
        return AppliedThreshold(next(iter(limits.values())), None)
    return AppliedThreshold(None, limits)


def found_instances(instances: Instances, masks: Masks) -> list[FoundInstance]:
    """Each instance in the form that was asked for."""
    found = []
    columns = zip(instances.boxes, instances.labels, instances.scores, instances.rles, strict=True)
    for number, (box, label, score, rle) in enumerate(columns, start=1):
        category = instances.categories[label - 1]
        left, top, right, bottom = (round(float(side), _DECIMALS) for side in box)
        polygons = mask = None
        if masks == "polygon":
            parts = mask_to_polygons(*rle_to_crop(rle))
            rings = [ring for part in parts for ring in (part.outer, *part.holes)]
            polygons = [[round(float(value), _DECIMALS) for value in ring.ravel()] for ring in rings]
        if masks == "rle":
            mask = CompressedMask((rle["size"][0], rle["size"][1]), rle["counts"])
        found.append(
            FoundInstance(
                id=number,
                category_id=category.id,
                category=category.name,
                score=round(float(score), 6),
                box=(left, top, right, bottom),
                area=rle_area(rle),
                polygons=polygons,
                segmentation=mask,
            )
        )
    return found


def prediction_of(
    found: Found, header: ModelHeader, *, name: str | None, masks: Masks, warnings: list[str], total_ms: float
) -> Prediction:
    """The answer to an image."""
    height, width = found.instances.image_size_hw
    return Prediction(
        image=ImageFacts(name, width, height, None if found.drift is None else round(found.drift.value, 3)),
        threshold=applied_threshold(header, found.threshold),
        instances=found_instances(found.instances, masks),
        warnings=warnings,
        timings_ms=Timings(round(found.queue_ms, 1), round(found.model_ms, 1), round(total_ms, 1)),
    )


def as_json(answer: Any) -> Any:
    """An answer as JSON's own values, without the forms of masks that were not asked for."""
    if isinstance(answer, FoundInstance):
        optional = ("polygons", "segmentation")
        return {key: as_json(value) for key, value in vars(answer).items() if not (key in optional and value is None)}
    if hasattr(answer, "__dataclass_fields__"):
        return {key: as_json(value) for key, value in vars(answer).items()}
    if isinstance(answer, Mapping):
        return {key: as_json(value) for key, value in answer.items()}
    return [as_json(one) for one in answer] if isinstance(answer, list | tuple) else answer
