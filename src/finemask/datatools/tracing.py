"""Following instances through an augmentation, so that the same one can be drawn in the same colour."""

import numpy as np

from finemask.data.augment import Draw, Scene, SceneAugmentation


class Tracing:
    """An augmentation that hands out tags in the place of labels.

    Instances keep their label through any augmentation, whatever else becomes of them. So each instance is given a
    number of its own for a label while it is augmented: the targets that a dataset makes say by their labels which
    instances they are. Tags of the image itself are 1..N in the order of the dataset; instances that come from other
    images follow.

    Args:
        augment: what is traced.

    Attributes:
        labels: true label of each tag, tag 1 first; of the latest scene.
        num_own: how many of these tags belong to the image itself.
    """

    def __init__(self, augment: SceneAugmentation) -> None:
        self._augment = augment
        self.labels: list[int] = []
        self.num_own = 0

    def augment_scene(self, scene: Scene, draw: Draw, rng: np.random.Generator) -> Scene:
        """See ``SceneAugmentation``; labels of the result are tags."""
        self.labels = []
        tagged = self._tagged(scene)
        self.num_own = len(self.labels)
        return self._augment.augment_scene(tagged, lambda other: self._tagged(draw(other)), rng)

    def _tagged(self, scene: Scene) -> Scene:
        first = len(self.labels) + 1
        self.labels.extend(scene.labels.tolist())
        return scene._replace(labels=np.arange(first, len(self.labels) + 1, dtype=scene.labels.dtype))
