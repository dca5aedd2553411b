import numpy as np
from inference_data import make_instances
from PIL import Image

from finemask.inference.outputs.shrunk_picture import shrunk


def test_picture_boxes_and_masks_are_shrunk_alike(tmp_path):
    """A quarter of 410 × 602 px: means of 4 × 4 pixels, by numpy; masks by the majority of theirs."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 255, (410, 602, 3)).astype(np.uint8)
    path = tmp_path / "mosaic.png"
    Image.fromarray(pixels).save(path)
    masks = np.zeros((3, 410, 602), bool)
    masks[0, 41:90, 3:77] = True
    masks[1, 400:410, 590:602] = True
    masks[2, 200, 300] = True  # a single pixel is a sixteenth
    found = make_instances(masks, [1, 2, 3], name="mosaic.png", path=path)
    small = shrunk(found, most_px=151)
    assert small.image_size_hw == (103, 151)
    means = pixels[:408, :600].reshape(102, 4, 150, 4, 3).mean(axis=(1, 3))
    assert np.abs(small.image[:102, :150].astype(float) - means).max() <= 0.51
    shares = masks[:, :408, :600].reshape(3, 102, 4, 150, 4).mean(axis=(2, 4))
    assert np.array_equal(small.masks[:, :102, :150], shares >= 0.5)
    assert small.masks[1].any()
    assert not small.masks[2].any()
    assert np.allclose(small.boxes, found.boxes / 4)
    assert shrunk(found, most_px=602).image.shape == (410, 602, 3)
