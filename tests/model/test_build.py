"""Assembling models from configurations."""

import copy
import itertools

import pytest
import torch
from model_cases import model_config, random_scene, strides_of
from torch import nn

from finemask.config import config_dir
from finemask.config.config_files import allowed_targets, shipped_targets
from finemask.errors import ConfigError
from finemask.model.build import build_model, build_unfilled_model
from finemask.model.pretrained.transfer import Transfer, apply_transfer, set_train_mode
from finemask.model.resolve import resolve_model

MODELS = sorted(path.stem for path in (config_dir() / "model").glob("*.yaml"))


@pytest.mark.parametrize("name", MODELS)
def test_every_shipped_model_is_built_of_allowed_parts_with_the_right_strides(name):
    with torch.device("meta") if name.startswith(("resnet101", "resnext")) else torch.device("cpu"):
        model = build_model(model_config(name), num_classes=3, allowed=shipped_targets("model"))
    assert model.num_classes == 3
    if not next(model.parameters()).is_meta:
        assert strides_of(model.backbone, 128) == [4, 8, 16, 32, 64]


@pytest.mark.parametrize("name", ["tiny", "light", "mobilenet_v3_fpn"])
def test_losses_reach_every_trainable_parameter(name):
    model = build_model(model_config(name, "model.min_size=96"), num_classes=4).train()
    scenes = [random_scene(90, 110, 6, 0), random_scene(80, 80, 0, 1)]
    losses = model([image for image, _, _ in scenes], [target for _, target, _ in scenes])
    torch.stack(list(losses.values())).sum().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert without == []


def test_a_batch_without_any_object_has_finite_losses_and_gradients_everywhere():
    model = build_model(model_config("tiny"), num_classes=4).train()
    image, target, _ = random_scene(70, 90, 0)
    losses = model([image], [target])
    total = torch.stack(list(losses.values())).sum()
    assert torch.isfinite(total)
    total.backward()
    assert all(p.grad is not None for p in model.parameters())


def test_the_same_seed_gives_the_same_losses():
    image, target, _ = random_scene(80, 90, 5)
    values = []
    for _ in range(2):
        torch.manual_seed(1)
        model = build_model(model_config("tiny"), num_classes=4).train()
        values.append({name: value.item() for name, value in model([image], [target]).items()})
    assert values[0] == values[1]


@pytest.mark.parametrize("shape", [(1, 1), (3, 400), (40, 40), (300, 200)])
def test_any_image_size_is_accepted(shape):
    model = build_model(model_config("tiny"), num_classes=2).eval()
    model.roi_heads.score_thresh = 0.0
    with torch.inference_mode():
        (found,) = model([torch.randint(0, 255, (3, *shape), dtype=torch.uint8)])
    assert found["image_size_hw"] == shape
    assert found["mask_probs"].shape[1:] == (28, 28)
    assert found["boxes"].shape == (len(found["scores"]), 4)
    assert (found["boxes"][:, 2] <= shape[1] + 1e-3).all()
    assert (found["boxes"][:, 3] <= shape[0] + 1e-3).all()


def test_float_images_are_refused_because_the_model_normalises_itself():
    model = build_model(model_config("tiny"), num_classes=2).eval()
    with pytest.raises(TypeError, match="uint8"):
        model([torch.rand(3, 32, 32)])


@pytest.mark.parametrize("label", [0, 4])
def test_labels_outside_the_classes_are_refused_with_the_image(label):
    model = build_model(model_config("tiny"), num_classes=4).train()
    image, target, _ = random_scene(70, 90, 3, image_id=77)
    target["labels"][1] = label
    with pytest.raises(ValueError, match=r"image 77: labels are 1\.\.3"):
        model([image], [target])


def test_parts_of_others_are_used_in_training_and_refused_from_a_file():
    config = model_config("tiny")
    config["mask_predictor"] = {"_target_": "model_cases.ConstantMaskPredictor", "_partial_": True}
    model = build_model(config, num_classes=2)
    assert type(model.roi_heads.mask_predictor).__name__ == "ConstantMaskPredictor"
    with pytest.raises(ConfigError, match=r"ConstantMaskPredictor \(model\.mask_predictor\) is not one of"):
        build_model(config, num_classes=2, allowed=shipped_targets("model"))
    build_model(config, num_classes=2, allowed=shipped_targets("model") | {"model_cases.ConstantMaskPredictor"})


def test_everything_foreign_stands_in_one_message_with_the_key_to_type():
    config = model_config("tiny")
    config["mask_predictor"] = {"_target_": "model_cases.ConstantMaskPredictor", "_partial_": True}
    config["box_head"]["inner"] = [{"_target_": "elsewhere.Inner"}]  # however deep
    config["mask_loss"] = {"_target_": "elsewhere.Loss"}  # not needed to predict
    with pytest.raises(ConfigError) as refused:
        build_model(config, num_classes=2, allowed=shipped_targets("model"))
    message, predictor = str(refused.value), "model_cases.ConstantMaskPredictor"
    assert f"{predictor} (model.mask_predictor), elsewhere.Inner (model.box_head) are not finemask's" in message
    assert "'trust=[model_cases.ConstantMaskPredictor,elsewhere.Inner]'" in message
    assert "Loss" not in message


@pytest.mark.parametrize("trust", ["model_cases.*", "model_cases.ConstantMaskPredictor"])
def test_parts_are_trusted_by_name_or_by_package(trust):
    config = model_config("tiny")
    config["mask_predictor"] = {"_target_": "model_cases.ConstantMaskPredictor", "_partial_": True}
    build_model(config, num_classes=2, allowed=allowed_targets(trust))
    for other in ("model_case.*", "*", ".*", "model_cases", "model_cases.Constant"):
        with pytest.raises(ConfigError, match="is not one of"):
            build_model(config, num_classes=2, allowed=allowed_targets([other]))


@pytest.mark.parametrize("key", ["class_loss", "box_loss", "mask_loss", "sampler"])
def test_a_model_predicts_without_the_code_of_its_losses_and_refuses_to_be_trained(key):
    config = model_config("tiny")
    torch.manual_seed(0)
    trained = build_model(config, num_classes=3).eval()
    config[key] = {"_target_": "elsewhere.Part", "strength": 2}
    image, target, _ = random_scene(70, 90, 3)
    for allowed in (allowed_targets(), allowed_targets("elsewhere.*")):  # not trusted; trusted, but not there
        model = build_model(config, num_classes=3, allowed=allowed).eval()
        place = "fg_bg_sampler" if key == "sampler" else key
        model.load_state_dict(
            {
                **trained.state_dict(),
                **({f"roi_heads.{place}.weight": torch.ones(1)} if place in ("fg_bg_sampler", "mask_loss") else {}),
            }
        )
        with torch.inference_mode():
            (found,), (expected,) = model([image]), trained([image])
        assert torch.equal(found["scores"], expected["scores"])
        assert torch.equal(found["mask_probs"], expected["mask_probs"])
        with pytest.raises(ConfigError, match=r"cannot be trained further: elsewhere\.Part"):
            copy.deepcopy(model).train()([image], [target])
    with pytest.raises(ConfigError, match=r"elsewhere\.Part cannot be imported"):
        build_model(config, num_classes=3)


def test_a_part_may_be_made_of_parts():
    config = model_config("tiny")
    config["mask_loss"] = {
        "_target_": "model_cases.SumOfLosses",
        "losses": [
            {"_target_": "finemask.model.mask_losses.BCEMaskLoss"},
            {"_target_": "model_cases.ConstantLoss", "value": 41.0},
        ],
    }
    model = build_model(config, num_classes=4).train()
    image, target, _ = random_scene(70, 90, 3)
    config["mask_loss"] = {"_target_": "finemask.model.mask_losses.BCEMaskLoss"}
    plain = build_model(config, num_classes=4).train()
    plain.load_state_dict(model.state_dict())
    losses = []
    for one in (model, plain):
        torch.manual_seed(3)
        losses.append(one([image], [target])["loss_mask"].item())
    assert losses[0] == pytest.approx(losses[1] + 41.0, abs=1e-4)


def own_backbone(**options) -> dict:
    config = model_config("tiny")
    config["backbone"] = {"_target_": "model_cases.OneMapBackbone", **options}
    config["anchors"]["sizes"] = [32]
    return config


def test_a_backbone_of_ones_own_with_a_single_map_is_taken():
    model = build_model(own_backbone(width=12), num_classes=4)
    assert strides_of(model.backbone, 128) == [16]
    apply_transfer(model, Transfer(trainable_stages=0))
    assert not any(parameter.requires_grad for parameter in model.backbone.body.parameters())
    apply_transfer(model, Transfer(trainable_stages=3))
    image, target, _ = random_scene(70, 90, 3)
    losses = model.train()([image], [target])
    torch.stack(list(losses.values())).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    with torch.inference_mode():
        (found,) = model.eval()([image])
    assert found["image_size_hw"] == (70, 90)


def test_a_pyramid_of_torchvision_is_taken_as_it_is():
    config = model_config("tiny")
    target = "torchvision.models.detection.backbone_utils.resnet_fpn_backbone"
    config["backbone"] = {"_target_": target, "backbone_name": "resnet18", "weights": None, "trainable_layers": 5}
    model = build_model(config, num_classes=3).eval()
    assert strides_of(model.backbone, 128) == [4, 8, 16, 32, 64]
    assert model.roi_heads.box_roi_pool.featmap_names == ["0", "1", "2", "3"]
    with torch.inference_mode():
        (found,) = model([torch.randint(0, 255, (3, 60, 80), dtype=torch.uint8)])
    assert found["mask_probs"].shape[1:] == (28, 28)


@pytest.mark.parametrize(
    ("gives", "said"),
    [
        ("tensor", "OneMapBackbone gives a Tensor, not an OrderedDict"),
        ("list", "OneMapBackbone gives a list, not an OrderedDict"),
        ("named otherwise", "OneMapBackbone names its maps pool"),
        ("coarse first", r"the maps 0: \[1, 8, 8, 8\], 1: \[1, 8, 16, 16\].*the finest first"),
        ("other width", r"the maps 0: \[1, 8, 16, 16\].*must be \[1, 9, h, w\]"),
        ("no width", "OneMapBackbone has no out_channels"),
        ("stages", "stages of model_cases.OneMapBackbone are not 5 lists"),
    ],
)
def test_a_backbone_of_another_kind_is_refused_in_words(gives, said):
    with pytest.raises(ConfigError, match=rf"^model\.backbone: .*{said}"):
        build_model(own_backbone(gives=gives), num_classes=2)


def test_anchors_must_be_of_as_many_sizes_as_there_are_maps():
    config = own_backbone()
    config["anchors"]["sizes"] = [16, 32]
    with pytest.raises(ConfigError, match=r"model\.anchors\.sizes: 2 sizes for the 1 level of the backbone"):
        build_model(config, num_classes=2)


def test_proposals_and_heads_of_ones_own():
    config = own_backbone()
    config["rpn"] = {"_target_": "model_cases.WholeImageProposals", "parts": 3}
    config["box_head"] = {"_target_": "model_cases.MeanHead"}
    model = build_model(config, num_classes=4)
    image, target, _ = random_scene(70, 90, 3)
    losses = model.train()([image], [target])
    assert set(losses) == {"loss_rpn", "loss_classifier", "loss_box_reg", "loss_mask"}
    with torch.inference_mode():
        model.roi_heads.score_thresh = 0.0
        (found,) = model.eval()([image])
    assert len(found["scores"])
    config["box_head"] = {"_target_": "torch.nn.Linear", "out_features": 3, "_partial_": True}
    with pytest.raises(ConfigError, match=r"model\.box_head: a partial is neither a module with out_channels"):
        build_model(config, num_classes=4)


def test_a_loss_of_ones_own_is_what_the_model_reports():
    model = build_model(model_config("tiny"), num_classes=4).train()
    model.roi_heads.mask_loss = lambda logits, targets, labels: logits.sum() * 0 + 42.0
    image, target, _ = random_scene(70, 90, 3)
    assert model([image], [target])["loss_mask"].item() == 42.0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"min_size": 8}, "at least 32"),
        ({"min_size": 800, "max_size": 500}, "do not fit"),
        ({"image_std": [1.0, 0.0, 1.0]}, "three numbers"),
        ({"roi_heads": {"detections_per_img": "auto"}}, "must be a number"),
        (
            {"backbone": {"_target_": "finemask.model.backbones.families.small_fpn", "norm": "auto"}},
            "not one of",
        ),
        ({"box_loss": {"_target_": "finemask.nowhere.Loss"}}, "cannot be imported"),
        (
            {"backbone": {"_target_": "finemask.model.backbones.families.resnet_fpn", "name": "resnet7"}},
            "resnet7",
        ),
        (
            {"backbone": {"_target_": "finemask.model.backbones.families.resnet_fpn", "colour": 1}},
            "does not take",
        ),
    ],
)
def test_configurations_that_cannot_work_name_the_key(change, reason):
    with pytest.raises(ConfigError, match=reason):
        build_model({**model_config("tiny"), **change}, num_classes=2)


def test_what_is_automatic_follows_weights_and_data():
    config = model_config("resnet50_fpn")
    config["backbone"]["norm_eps"] = 1e-5
    config["backbone"]["norm"] = config["roi_heads"]["detections_per_img"] = "auto"
    assert resolve_model(config, 20)["roi_heads"]["detections_per_img"] == 100
    assert resolve_model(config, 375)["roi_heads"]["detections_per_img"] == 563
    assert resolve_model(config, 1)["backbone"] == {
        **config["backbone"],
        "norm": "frozen_bn",
        "norm_eps": 0.0,
    }
    scratch = resolve_model({**config, "weights": "none"}, 1)
    assert scratch["backbone"]["norm"] == "bn"
    assert config["backbone"]["norm"] == "auto"  # the configuration itself is left alone


@pytest.mark.parametrize("name", ["tiny", "light", "resnet18_fpn"])
@pytest.mark.parametrize("stages", [0, 1, 3, 5])
def test_freezing_leaves_exactly_the_last_stages_trainable(name, stages):
    model = build_model(model_config(name), num_classes=2)
    apply_transfer(model, Transfer(trainable_stages=stages))
    trained = {n for n, p in model.backbone.body.named_parameters() if p.requires_grad}
    kept = [child for stage in model.backbone.stages[5 - stages :] for child in stage]
    assert {n.split(".")[0] for n in trained} <= set(kept)
    everything = {n for n, _ in model.backbone.body.named_parameters()}
    assert trained == {n for n in everything if n.split(".")[0] in kept}
    assert all(p.requires_grad for n, p in model.named_parameters() if not n.startswith("backbone.body."))


def test_freezing_by_name_and_its_mistakes():
    model = build_model(model_config("tiny"), num_classes=2)
    apply_transfer(model, Transfer(freeze=[r"rpn\.", r"roi_heads\.box_head"]))
    frozen = {n.split(".")[0] + "." + n.split(".")[1] for n, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {"rpn.head", "roi_heads.box_head"}
    with pytest.raises(ConfigError, match="matches no parameter"):
        apply_transfer(model, Transfer(freeze=["nothing"]))
    with pytest.raises(ConfigError, match="everything is frozen"):
        apply_transfer(model, Transfer(freeze=[""]))
    with pytest.raises(ConfigError, match="between 0 and 5"):
        apply_transfer(model, Transfer(trainable_stages=6))


def test_frozen_batch_norm_layers_keep_their_statistics_in_training():
    model = build_model(model_config("tiny"), num_classes=2)
    apply_transfer(model, Transfer(trainable_stages=2))
    set_train_mode(model)
    image, target, _ = random_scene(70, 90, 3, num_categories=1)
    before = {n: b.clone() for n, b in model.backbone.body.named_buffers() if "running_mean" in n}
    model([image], [target])
    moved = {
        n.split(".")[0] for n, b in model.backbone.body.named_buffers() if n in before and not torch.equal(b, before[n])
    }
    assert moved == {"stage2", "stage3"}
    assert model.training
    assert any(isinstance(m, nn.BatchNorm2d) for m in model.modules())


@pytest.mark.parametrize("name", ["tiny", "light", "resnet18_fpn"])
def test_a_model_whose_weights_follow_draws_none(name):
    config = model_config(name)
    torch.manual_seed(3)
    drawn = build_model(config, num_classes=3)
    before = torch.random.get_rng_state()
    unfilled = build_unfilled_model(config, num_classes=3, allowed=allowed_targets())
    assert torch.equal(torch.random.get_rng_state(), before)
    unfilled.load_state_dict(drawn.state_dict())
    mine, theirs = (dict(itertools.chain(m.named_parameters(), m.named_buffers())) for m in (unfilled, drawn))
    assert mine.keys() == theirs.keys()
    for key, value in theirs.items():
        assert torch.equal(mine[key], value), key
        assert (mine[key].stride(), mine[key].requires_grad) == (value.stride(), value.requires_grad), key
