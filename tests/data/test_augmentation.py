"""Augmentations move image and maps alike, invent no values, take all chance from their generator; chains of them."""

import os
import subprocess
import sys
from pathlib import Path

import albumentations as A  # noqa: N812
import hydra
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from torchvision.transforms import v2
from traced_scenes import never_drawn, random_scene, scene_of

from finemask.data.augmentation import (
    AlbumentationsAugmentation,
    Chain,
    NoAugmentation,
    PerImage,
    Scene,
    SceneAugmentation,
    TorchAugmentation,
    as_scene_augmentation,
)
from finemask.errors import ConfigError

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "augment"
SHIPPED = sorted(path.stem for path in CONFIGS.glob("*.yaml"))


MIXING = {"copy_paste", "mosaic"}  # they draw other images


def shipped(name):
    """What ``augment=NAME`` makes, where the model looks at 128 px."""
    config = OmegaConf.create({"model": {"min_size": 128}, "augment": OmegaConf.load(CONFIGS / f"{name}.yaml")})
    return as_scene_augmentation(hydra.utils.instantiate(config.augment))


def apply(augment, image, layers, seed):
    """Image and maps after an augmentation; every other image it draws is the same one."""
    values = [(number, value) for number, layer in enumerate(layers) for value in np.unique(layer) if value]
    slots = np.array(values, dtype=np.int64).reshape(-1, 2)
    scene = Scene(image, layers, slots, np.arange(len(slots)))
    out = augment.augment_scene(scene, lambda rng: scene, np.random.default_rng(seed))
    assert len(out.labels) == len(out.slots)
    assert set(out.labels) <= set(scene.labels)
    for number, layer in enumerate(out.layers):  # no pixel belongs to an instance that is not there
        assert set(np.unique(layer)) <= {0, *out.slots[out.slots[:, 0] == number, 1].tolist()}
    return out.image, out.layers


def picture(num_layers=2, height=40, width=60):
    """An image that is bright exactly where layer 0 has something, and layers of several values."""
    layers = np.zeros((num_layers, height, width), np.uint8)
    for number in range(num_layers):
        layers[number, 5 + number : 20, 10:30] = 1 + number
        layers[number, 22:38, 20 + number : 58] = 255 - number
    image = np.where(layers[0][:, :, None] > 0, 230, 20).astype(np.uint8).repeat(3, axis=2)
    return image, layers


def test_every_shipped_name_is_there():
    names = {"none", "flip", "light", "strong", "topdown", "torch", "clahe", "lsj", "copy_paste", "mosaic"}
    assert names <= set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_configurations(name):
    augment = shipped(name)
    image, layers = picture(6)
    before = image.copy(), layers.copy()
    seen = set()
    for seed in range(25):
        out, maps = apply(augment, image, layers, seed)
        again, maps_again = apply(augment, image, layers, seed)
        np.testing.assert_array_equal(out, again)
        np.testing.assert_array_equal(maps, maps_again)
        assert out.dtype == maps.dtype == np.uint8
        assert out.shape == (*maps.shape[1:], 3)
        assert out.flags.c_contiguous
        assert maps.flags.c_contiguous
        if name not in MIXING:
            for number in range(6):
                assert set(np.unique(maps[number])) <= {0, 1 + number, 255 - number}
        seen.add(out.tobytes())
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(layers, before[1])
    assert len(seen) == {"none": 1, "flip": 2}.get(name, len(seen))
    assert name in ("none", "flip") or len(seen) > 15


@pytest.mark.parametrize("name", SHIPPED)
def test_maps_stay_on_their_objects(name):
    """The image is bright where layer 0 is set; after any geometry it must still be, up to blurred edges."""
    augment = shipped(name)
    image, layers = picture(1, 160, 240)
    layers = layers.copy()
    layers[0, 50:150, 80:200] = 77
    image = np.where(layers[0][:, :, None] > 0, 230, 20).astype(np.uint8).repeat(3, axis=2)
    for seed in range(15):
        out, maps = apply(augment, image, layers, seed)
        on = maps.any(axis=0)
        if on.any() and not on.all():
            assert out[on].mean() > np.median(out[~on]) + 40, seed


def test_topdown_knows_all_eight_positions():
    augment = AlbumentationsAugmentation([A.D4(p=1.0)])
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    layers = np.arange(4, dtype=np.uint8).reshape(1, 2, 2)
    seen = {augment(image, layers, np.random.default_rng(s))[1].tobytes() for s in range(80)}
    assert len(seen) == 8


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                A.HorizontalFlip(p=0.7),
                A.Affine(rotate=(-180, 180), scale=(0.4, 2), shear=(-20, 20), p=0.9, mask_interpolation=1),
                A.ElasticTransform(alpha=60, sigma=6, p=0.9),
                A.GridDistortion(p=0.9),
                A.Perspective(p=0.9),
                A.RandomCropFromBorders(p=0.9),
                A.PadIfNeeded(min_height=100, min_width=90, p=1.0),
                A.RandomScale(p=0.9),
                A.Transpose(p=0.5),
                A.CoarseDropout(p=0.9),
                A.OneOf([A.RandomRotate90(p=1.0), A.SafeRotate(p=1.0)]),
            ]
        ),
        max_size=5,
    ),
    st.integers(1, 7),
    st.integers(0, 2**32),
)
def test_random_pipelines_invent_no_value(transforms, num_layers, seed):
    augment = AlbumentationsAugmentation(transforms)
    image, layers = picture(num_layers)
    out, maps = augment(image, layers, np.random.default_rng(seed))
    assert out.shape == (*maps.shape[1:], 3)
    assert len(maps) == num_layers
    for number in range(num_layers):
        assert set(np.unique(maps[number])) <= {0, 1 + number, 255 - number}


@pytest.mark.parametrize(
    "transforms",
    [
        [A.Normalize()],
        [A.ToFloat()],
        [A.HorizontalFlip(), A.OneOf([A.Blur(), A.Sequential([A.Normalize()])])],
        [A.pytorch.ToTensorV2()],
    ],
)
def test_normalising_is_refused(transforms):
    with pytest.raises(ConfigError, match="normalises and resizes the uint8 image itself"):
        AlbumentationsAugmentation(transforms)


def test_other_misuse_is_refused():
    with pytest.raises(ConfigError, match="fill_mask"):
        AlbumentationsAugmentation([A.Affine(fill_mask=255)])
    with pytest.raises(ConfigError, match="augment=torch"):
        AlbumentationsAugmentation([v2.RandomHorizontalFlip()])
    for transform in (v2.Normalize([0.5], [0.5]), v2.ToDtype(torch.float32)):
        with pytest.raises(ConfigError, match="normalises"):
            TorchAugmentation([v2.Compose([transform])])
    with pytest.raises(ConfigError, match="float"):
        TorchAugmentation([v2.Lambda(lambda x: x.float())])(*picture(), np.random.default_rng(0))


def test_torch_leaves_the_global_generator_alone():
    augment = TorchAugmentation([v2.RandomHorizontalFlip(), v2.ColorJitter(0.3)])
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    augment(*picture(), np.random.default_rng(0))
    assert torch.equal(torch.rand(3), expected)


def test_albumentations_asks_no_server():
    code = (
        "import socket\n"
        "def refuse(*a, **k): raise SystemExit('network')\n"
        "socket.create_connection = socket.getaddrinfo = refuse\n"
        "import finemask.data.augmentation, albumentations\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "NO_ALBUMENTATIONS_UPDATE"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=60)


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
    assert isinstance(as_scene_augmentation(NoAugmentation()), PerImage)
    assert not isinstance(NoAugmentation(), SceneAugmentation)
    scene, _ = random_scene(np.random.default_rng(0), 6, 7, 3)
    assert chain.augment_scene(scene, never_drawn, np.random.default_rng(0)) is scene
    out = as_scene_augmentation(Add(3)).augment_scene(scene, never_drawn, np.random.default_rng(0))
    np.testing.assert_array_equal(out.image, scene.image + 3)
    assert out.labels is scene.labels


def test_a_step_that_is_nothing_is_named():
    with pytest.raises(ConfigError, match=r"augment\.flip: the step is None.*~augment\.flip"):
        Chain(jitter=Add(1), flip=None)
