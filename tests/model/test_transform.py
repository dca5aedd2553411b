"""The transform against torchvision's ``GeneralizedRCNNTransform``."""

import pytest
import torch
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from finemask.model.transform import ImageTransform
from finemask.types import Preprocessing

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.mark.parametrize(
    "sizes",
    [
        [(40, 60)] * 3,  # all alike: one operation for the batch
        [(40, 60), (60, 40), (33, 90)],
        [(64, 96), (64, 96)],  # nothing to resize
        [(40, 60)],
    ],
)
def test_batches_are_torchvisions(sizes):
    generator = torch.Generator().manual_seed(0)
    images = [torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8) for size in sizes]
    ours = ImageTransform(Preprocessing((64,), 110, MEAN, STD)).eval()
    theirs = GeneralizedRCNNTransform(64, 110, list(MEAN), list(STD)).eval()
    batch, _ = ours(images)
    expected, _ = theirs([image.float() / 255 for image in images])
    assert batch.image_sizes == expected.image_sizes
    assert torch.allclose(batch.tensors, expected.tensors, atol=1e-5)


def test_float_images_are_refused():
    transform = ImageTransform(Preprocessing((64,), 110, MEAN, STD))
    with pytest.raises(TypeError, match="uint8"):
        transform([torch.zeros(3, 40, 40), torch.zeros(3, 40, 40)])
