"""Augmentations one after another, of one image or of several."""

import numpy as np

from finemask.data.augment import Augmentation, Draw, Scene, SceneAugmentation
from finemask.errors import ConfigError


class Chain:
    """Runs named steps in the order they are given.

    A step that mixes images, such as copy-paste, draws images that went through the steps before it, each with
    random choices of its own. So jitter, then copy-paste, is the recipe of Ghiasi et al. (2021): both images are
    jittered, then instances of one are pasted into the other. Steps after it see the mixed image.

    The names are free. They are what a command line says to change a step, as in ``augment.paste.blend_px=2``.

    Args:
        steps: of either kind.

    Raises:
        ConfigError: a step is no augmentation.
    """

    def __init__(self, **steps: Augmentation | SceneAugmentation) -> None:
        for name, step in steps.items():
            if not callable(step) and not isinstance(step, SceneAugmentation):
                raise ConfigError(
                    f"the step is {step!r}, which is no augmentation",
                    where=f"augment.{name}",
                    remedy=f"Give it a _target_; to leave a step out, write '~augment.{name}'.",
                )
        self._steps = [as_scene_augmentation(step) for step in steps.values()]

    def augment_scene(self, scene: Scene, draw: Draw, rng: np.random.Generator) -> Scene:
        """See ``SceneAugmentation``."""
        for step in self._steps:
            scene = step.augment_scene(scene, draw, rng)
            draw = _after(step, draw)
        return scene


class EachAlone:
    """An augmentation of one image, as one of scenes: it draws no others.

    Args:
        augment: of one image.
    """

    def __init__(self, augment: Augmentation) -> None:
        self._augment = augment

    def augment_scene(self, scene: Scene, draw: Draw, rng: np.random.Generator) -> Scene:
        """See ``SceneAugmentation``."""
        image, layers = self._augment(scene.image, scene.layers, rng)
        return scene._replace(image=image, layers=layers)


def as_scene_augmentation(augment: Augmentation | SceneAugmentation) -> SceneAugmentation:
    """Either kind as the wider one."""
    return augment if isinstance(augment, SceneAugmentation) else EachAlone(augment)


def _after(step: SceneAugmentation, draw: Draw) -> Draw:
    """Draws what ``draw`` does, and has the step done to it."""
    return lambda rng: step.augment_scene(draw(rng), draw, rng)
