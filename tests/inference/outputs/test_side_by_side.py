import numpy as np
import pytest
from inference_data import encode, make_instances

from finemask.errors import ConfigError
from finemask.inference.outputs.side_by_side import Label, side_by_side
from finemask.inference.outputs.writers import open_writers
from finemask.ops.colours import NO_VERDICT, colours
from finemask.ops.drawing import FILL_OPACITY


def square(x0, y0, x1, y1):
    mask = np.zeros((500, 420), dtype=bool)
    mask[y0:y1, x0:x1] = True
    return mask


def test_both_halves_have_one_set_of_colours():
    """A label of class 2 and one that the model does not know on the left; an instance of class 2 on the right."""
    image = np.full((500, 420, 3), 100, np.uint8)
    places = {"green/date": (50, 50, 150, 150), "stone": (200, 300, 300, 400)}
    labels = [Label(name, place, encode(square(*place))) for name, place in places.items()]
    found = make_instances(square(60, 60, 160, 160)[None], [2], [0.9], image=image)
    shown = np.asarray(side_by_side(found, labels)).astype(int)
    gap = shown.shape[1] - 2 * 420
    top = next(y for y in range(60) if (shown[y, :5] == 100).all())

    def inside(half, x, y):
        return shown[top + y, half * (420 + gap) + x]

    def painted(colour):
        return FILL_OPACITY * np.array(colour) + (1 - FILL_OPACITY) * 100

    (green,) = colours([1])
    for half, x, y, colour in ((0, 100, 130, green), (1, 110, 140, green), (0, 250, 380, NO_VERDICT)):
        assert np.abs(inside(half, x, y) - painted(colour)).max() <= 1
    assert (inside(1, 250, 380) == 100).all()
    assert (inside(0, 400, 10) == 100).all()
    legend = shown[top + 500 :].reshape(-1, 3)
    assert all((legend == colour).all(axis=1).any() for colour in (green, NO_VERDICT))
    assert not (legend == colours([0])[0]).all(axis=1).any()


def test_without_an_annotation_file_it_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="save=side_by_side needs annotations="):
        open_writers(["side_by_side"], tmp_path)
