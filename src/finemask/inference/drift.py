"""Images that do not look like those a model was trained on: what it finds in them was never tested."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from finemask.model_header import ModelHeader
from finemask.ops.images.image_look import look_of


class Drift(NamedTuple):
    """How unlike the training images an image is."""

    value: float  # 0 is the same as one of them; above 1 it is unlike all of them
    words: str  # by what it differs most


def drift_of(image: NDArray[np.uint8], header: ModelHeader) -> Drift | None:
    """How unlike the training images an image is; None where the model file does not say what those look like.

    Args:
        image: uint8 [H, W, 3], RGB.
        header: of the model.
    """
    if header.training_looks is None:
        return None
    look = look_of(image)
    return Drift(header.training_looks.drift(look), header.training_looks.in_words(look))


def drift_in_words(which: str, drift: Drift, *, are_many: bool = False) -> str:
    """Of images that are unlike the training images: which, how far the worst is from them, and what to do."""
    return (
        f"{which} {'look' if are_many else 'looks'} unlike all training images: {drift.value:.1f} times as far from "
        f"the nearest as those are from each other ({drift.words}). How well the model does there was never measured: "
        f"look at the results, or label some of these images and train on them, too."
    )


class DriftWatch:
    """Counts the images that are unlike the training images; remembers the worst alone, however many there are.

    Args:
        header: of the model.

    Attributes:
        seen: images so far that were looked at.
        unlike: those of them that are unlike the training images.
    """

    def __init__(self, header: ModelHeader) -> None:
        self._header = header
        self.seen = self.unlike = 0
        self._worst: tuple[str, Drift] | None = None

    def add(self, name: str, image: NDArray[np.uint8] | None) -> Drift | None:
        """Looks at an image [H, W, 3]; None where there is nothing to say: see ``drift_of``."""
        found = None if image is None else drift_of(image, self._header)
        self.note(name, found)
        return found

    def note(self, name: str, found: Drift | None) -> None:
        """Counts an image that was looked at, here or elsewhere."""
        if found is None:
            return
        self.seen += 1
        if found.value > 1:
            self.unlike += 1
            if self._worst is None or found.value > self._worst[1].value:
                self._worst = name, found

    def in_words(self) -> str | None:
        """How many images are unlike the training images, and by what the worst is; None if few are: one in twenty."""
        if self._worst is None or self.unlike <= self.seen / 20:
            return None
        name, worst = self._worst
        which = name if self.seen == 1 else f"{self.unlike:,} of {self.seen:,} images, {name} most of all,"
        return drift_in_words(which, worst, are_many=self.unlike > 1)
