"""From which score on an instance is reported: the model file's own thresholds, or those that the user gives."""

from collections.abc import Mapping
from typing import Literal, TypeAlias

from finemask.errors import ConfigError, did_you_mean
from finemask.model_header import POINTS, ModelHeader

Threshold: TypeAlias = float | Literal["auto", "best_f1", "precision_90", "recall_90"] | Mapping[str, float]


def own_thresholds(header: ModelHeader) -> dict[str, float]:
    """What ``threshold="auto"`` means: each class's own threshold, or the global one if it has none."""
    return {category.name: header.threshold_of(category.name) for category in header.categories}


def score_limits(header: ModelHeader, threshold: Threshold) -> Mapping[str, float]:
    """The least score of each class, by name.

    Args:
        header: of the model file.
        threshold: see ``Predictor.predict``.

    Raises:
        ConfigError: a score outside 0..1, a class that the model does not know, or an operating point that its file
            does not hold.
    """
    own = own_thresholds(header)
    if threshold == "auto":
        return own
    if isinstance(threshold, Mapping):
        for name in threshold:
            if name not in own:
                raise ConfigError(
                    f"threshold names the class {name!r}, which this model does not know",
                    remedy=f"{did_you_mean(str(name), own)}It knows: {', '.join(own)}.",
                )
        return own | {name: _score(value, f"threshold of {name} is {value}") for name, value in threshold.items()}
    if threshold not in POINTS:
        return dict.fromkeys(own, _score(threshold, f"threshold={threshold}"))
    if (chosen := header.thresholds_at(str(threshold))) is None:
        raise ConfigError(
            f"this model file holds no threshold for {threshold}: it was not reached in validation, or the file "
            "was written before finemask looked for it",
            remedy="Use threshold=auto or a number from 0 to 1.",
        )
    return chosen


def _score(value: object, what: str) -> float:
    try:
        score = float(value)  # type: ignore[arg-type] # what is no number ends here
    except (TypeError, ValueError):
        score = -1.0
    if not 0 <= score <= 1:
        raise ConfigError(what, remedy=f"It is auto, {', '.join(POINTS)} or a number from 0 to 1.")
    return score
