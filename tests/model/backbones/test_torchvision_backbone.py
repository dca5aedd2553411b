"""torchvision's classifiers as backbones, against torchvision's own feature extraction."""

import pytest
import torch
from model_cases import model_config, strides_of
from torchvision.models import get_model
from torchvision.models.feature_extraction import create_feature_extractor

from finemask.errors import ConfigError
from finemask.model.backbones.families import timm_fpn
from finemask.model.backbones.torchvision_backbone import torchvision_fpn
from finemask.model.build import build_model
from finemask.model.pretrained.weights import fit_state_dict

LEVELS = {
    "mobilenet_v3_small": ["features.1", "features.3", "features.8", "features.11"],
    "shufflenet_v2_x0_5": ["maxpool", "stage2", "stage3", "stage4"],
    "regnet_y_400mf": [f"trunk_output.block{number}" for number in (1, 2, 3, 4)],
    "swin_t": ["features.1", "features.3", "features.5", "features.7"],
}


def assert_parts_cover_the_body_once(backbone):
    assert len(backbone.stages) == 5
    modules = [backbone.body.get_submodule(child) for stage in backbone.stages for child in stage]
    counted = [id(p) for module in modules for p in module.parameters()]
    assert len(counted) == len(set(counted))
    assert set(counted) == {id(p) for p in backbone.body.parameters()}


@pytest.mark.parametrize("name", LEVELS)
def test_the_levels_are_those_that_feature_extraction_gives(name):
    backbone = torchvision_fpn(name, out_channels=16, norm="bn").eval()
    network = get_model(name, weights=None).eval()
    found = network.load_state_dict(backbone.body.state_dict(), strict=False)
    assert found.unexpected_keys == []  # torchvision's own names
    extractor = create_feature_extractor(network, {path: str(k) for k, path in enumerate(LEVELS[name])})
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        ours, theirs = backbone.body(image), extractor(image)
        maps = backbone(image)
    for level, expected in theirs.items():
        assert torch.allclose(ours[level], expected, atol=1e-5), level
    assert [tuple(features.shape) for features in maps.values()] == [
        (1, 16, 64 // stride, -(-96 // stride)) for stride in (4, 8, 16, 32, 64)
    ]
    assert_parts_cover_the_body_once(backbone)


def test_published_weights_fill_the_whole_body():
    config = model_config("torchvision_fpn", "model.backbone.name=shufflenet_v2_x0_5", "model.backbone.out_channels=16")
    model = build_model(config, num_classes=2)
    report = fit_state_dict(model, get_model("shufflenet_v2_x0_5", weights=None).state_dict(), "torchvision")
    assert report.share_of_body == 1.0
    assert {name.split(".")[2] for name, _ in report.skipped} == {"conv5", "fc"}


@pytest.mark.parametrize(
    ("name", "reason"), [("squeezenet1_1", "needs 4, 8, 16 and 32"), ("shuflenet_v2_x0_5", "Did you mean shufflenet")]
)
def test_what_is_no_pyramid_is_refused(name, reason):
    with pytest.raises(ConfigError, match=reason):
        torchvision_fpn(name)


@pytest.mark.parametrize("name", ["convnext_atto", "mobilenetv3_small_050"])
def test_timms_backbones_have_five_parts_too(name):
    pytest.importorskip("timm", reason="needs the extra timm")
    backbone = timm_fpn(name, out_channels=16, norm="gn")
    assert strides_of(backbone, 64) == [4, 8, 16, 32, 64]
    assert all(backbone.stages)
    assert_parts_cover_the_body_once(backbone)
