"""The space of a search: what YAML says, as dimensions; defaults; what cannot be is refused before a training."""

import pytest

from finemask.config import compose, plain
from finemask.errors import ConfigError
from finemask.workflows.several_runs.search_space import Dimension, read_space, word_of

WORDS = ["data.root=nowhere", "model=tiny"]


def composed(more):
    return compose("train", [*WORDS, *more])


@pytest.fixture(scope="module")
def base():
    return composed([])


def read(space, base):
    return {dimension.key: dimension for dimension in read_space(space, base, composed)}


def test_the_shipped_space_is_about_the_settings_as_they_are(base):
    cfg = compose("sweep", WORDS)
    found = read(plain(cfg.space), base)
    rate = found["optimizer.lr"]
    assert (rate.low, rate.high, rate.log) == (base.optimizer.lr / 5, base.optimizer.lr * 5, True)
    assert rate.default == base.optimizer.lr
    assert found["augment"].choices == ("flip", "light", "strong")
    assert found["augment"].default == "light"
    assert found["transfer"].default == "last_stages"


def test_ranges_and_choices(base):
    found = read(
        {
            "model": {"min_size": {"low": 64, "high": 192, "step": 64}, "mask_loss": ["bce", "dice_bce"]},
            "optimizer.lr": [0.1, 0.2],
            "data": {"repeat_threshold": {"low": 0.001, "high": 0.5, "log": True}},
        },
        base,
    )
    size = found["model.min_size"]
    assert size == Dimension("model.min_size", low=64.0, high=192.0, step=64, whole=True, default=base.model.min_size)
    assert [size.holds(value) for value in (64, 128, 100, 256, 128.5, "64")] == [True, True, False, False, False, False]
    assert found["model.mask_loss"].default == "bce"
    assert found["optimizer.lr"].default is None, "it is not among the choices"
    assert found["data.repeat_threshold"].default is None, "null lies in no range"


def test_words_are_what_train_takes():
    assert word_of("augment", "flip") == "augment=flip"
    assert word_of("model.min_size", 320) == "model.min_size=320"
    assert word_of("data.pin_memory", True) == "data.pin_memory=true"
    cfg = composed([word_of("optimizer.lr", 3.0000000000000004e-05), word_of("name", "a b=c")])
    assert (cfg.optimizer.lr, cfg.name) == (3.0000000000000004e-05, "a b=c")


@pytest.mark.parametrize(
    ("space", "why"),
    [
        ({}, "the space is empty"),
        ({"optimizer": {"lr": 0.1}}, "0.1 is no range and no list"),
        ({"optimizer": {"lr": {"low": 0.1}}}, "cannot be read"),
        ({"optimizer": {"lr": {"low": 0.1, "high": 0.2, "times": [1, 2]}}}, "cannot be read"),
        ({"optimizer": {"lr": {"low": 0.2, "high": 0.1}}}, "is no range"),
        ({"optimizer": {"lr": {"low": 0.0, "high": 0.1, "log": True}}}, "log needs low above 0"),
        ({"optimizer": {"lr": {"low": -0.1, "high": 0.1}}}, "optimizer.lr cannot be -0.1"),
        ({"optimizer": {"lr": {"times": [2]}}}, "times is \\[2\\]"),
        ({"name": {"times": [1, 2]}}, "times is about the value of name"),
        ({"optimizer": {"rate": [0.1, 0.2]}}, "unknown key 'optimizer.rate'"),
        ({"augment": ["flip"]}, "are not two values"),
        ({"augment": ["flip", "strnog"]}, "strong"),
    ],
)
def test_what_cannot_be_is_refused(base, space, why):
    with pytest.raises(ConfigError, match=why):
        read_space(space, base, composed)
