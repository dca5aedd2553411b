"""Chains: steps in order, and images that a step draws have gone through the steps before it."""

import numpy as np
import pytest
from traced_scenes import never_drawn, random_scene, scene_of

from finemask.data.augmentation import Chain, EachAlone, NoAugmentation, SceneAugmentation, as_scene_augmentation
from finemask.errors import ConfigError


class Add:
    """Adds a number to the image: a mark that a step was run."""

    def __init__(self, number):
        self.number = number

    def __call__(self, image, layers, rng):
        return image + np.uint8(self.number), layers


class PutBeside:
    """Keeps the image and puts the pixel of a drawn one behind it."""

    def augment_scene(self, scene, draw, rng):
        other = draw(rng)
        image = np.concatenate([scene.image, other.image], axis=1)
        layers = np.concatenate([scene.layers, np.zeros_like(other.layers)], axis=2)
        return scene._replace(image=image, layers=layers)


def pixel(value):
    return scene_of(np.full((1, 1, 3), value, np.uint8), np.ones((1, 1, 1), bool), [1])


def drawing(values):
    waiting = iter(values)
    return lambda rng: pixel(next(waiting))


def test_steps_run_in_order_on_drawn_images_too():
    chain = Chain(first=Add(1), beside=PutBeside(), last=Add(100))
    out = chain.augment_scene(pixel(10), drawing([20]), np.random.default_rng(0))
    assert out.image[0, :, 0].tolist() == [111, 121]
    assert out.layers.tolist() == [[[1, 0]]]


def test_a_second_mixing_step_draws_images_that_were_mixed():
    chain = Chain(one=PutBeside(), add=Add(1), two=PutBeside())
    out = chain.augment_scene(pixel(0), drawing([10, 20, 30]), np.random.default_rng(0))
    assert out.image[0, :, 0].tolist() == [1, 11, 21, 31]
    inner = Chain(all=chain, add=Add(100))
    out = inner.augment_scene(pixel(0), drawing([10, 20, 30]), np.random.default_rng(0))
    assert out.image[0, :, 0].tolist() == [101, 111, 121, 131]


def test_either_kind_is_a_scene_augmentation():
    chain = Chain()
    assert as_scene_augmentation(chain) is chain
    assert isinstance(as_scene_augmentation(NoAugmentation()), EachAlone)
    assert not isinstance(NoAugmentation(), SceneAugmentation)
    scene, _ = random_scene(np.random.default_rng(0), 6, 7, 3)
    assert chain.augment_scene(scene, never_drawn, np.random.default_rng(0)) is scene
    out = as_scene_augmentation(Add(3)).augment_scene(scene, never_drawn, np.random.default_rng(0))
    np.testing.assert_array_equal(out.image, scene.image + 3)
    assert out.labels is scene.labels


def test_a_step_that_is_nothing_is_named():
    with pytest.raises(ConfigError, match=r"augment\.flip: the step is None.*~augment\.flip"):
        Chain(jitter=Add(1), flip=None)
