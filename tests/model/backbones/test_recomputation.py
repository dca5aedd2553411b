"""Gradient checkpointing changes what is kept, and nothing else."""

import copy

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from finemask.model.backbones.recomputation import recompute_backbone
from finemask.workflows.build_maskrcnn import maskrcnn


def kept(model, images):
    """Features, and the bytes that are kept for the gradient beside parameters."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    storages = {}

    def note(tensor):
        if tensor.untyped_storage().data_ptr() not in own:
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        features = model.backbone(images)
    return features, sum(storages.values())


@pytest.mark.parametrize("name", ["tiny", "resnet18_fpn"])
def test_same_features_gradients_and_statistics_from_less_memory(name):
    torch.manual_seed(0)
    plain = maskrcnn(name, num_classes=3, weights="none", overrides=["model.backbone.norm=bn"])
    other = copy.deepcopy(plain)
    names = list(other.state_dict())
    recompute_backbone(other)
    assert list(other.state_dict()) == names
    images = torch.randn(2, 3, 64, 96)
    of_plain, plain_bytes = kept(plain, images)
    of_other, other_bytes = kept(other, images)
    assert other_bytes < 0.8 * plain_bytes
    for level, features in of_plain.items():
        torch.testing.assert_close(of_other[level], features)
    for features in (of_plain, of_other):
        sum(level.square().mean() for level in features.values()).backward()
    for key, parameter in plain.backbone.named_parameters():
        torch.testing.assert_close(other.backbone.get_parameter(key).grad, parameter.grad)
    for key, buffer in plain.backbone.named_buffers():
        torch.testing.assert_close(other.backbone.get_buffer(key), buffer)


def test_without_a_gradient_it_is_the_plain_backbone():
    model = maskrcnn("tiny", num_classes=3, weights="none")
    recompute_backbone(model)
    with torch.no_grad():
        assert len(model.eval().backbone(torch.randn(1, 3, 64, 64))) == 5
