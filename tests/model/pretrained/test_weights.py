"""Pretrained weights from files with right, wrong and no keys; stages and experts that begin as the plain head."""

import re

import pytest
import torch
from model_cases import model_config
from part_cases import (
    NUM_CLASSES,
    build_parts,
    parts_config,
    second_stage_input,
    second_stage_losses,
    without_gradient,
)
from rich.console import Console
from safetensors.torch import save_file
from torchvision.models import mobilenet_v2, resnet18

from finemask.errors import WeightsError
from finemask.model.build import build_model
from finemask.model.pretrained.weights import fit_state_dict, load_weights, read_weights
from finemask.training.tables import weights_table


@pytest.fixture
def light():
    return build_model(model_config("light"), num_classes=3)


@pytest.fixture(scope="module")
def features():
    """A classifier's weights without its head, in torchvision's key names."""
    state = mobilenet_v2(weights=None).state_dict()
    return {
        name: torch.randn_like(t) if t.is_floating_point() else t
        for name, t in state.items()
        if "classifier" not in name
    }


def body_of(model):
    return {name: t for name, t in model.state_dict().items() if name.startswith("backbone.body.")}


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}, lambda s: {"model": s}])
@pytest.mark.parametrize("prefix", ["", "module.", "backbone."])
def test_a_backbone_loads_whatever_it_is_wrapped_in(light, features, tmp_path, wrap, prefix):
    path = tmp_path / "weights.pth"
    # Whoever saves a body on its own has no "features." in front.
    own = features if prefix != "backbone." else {k.removeprefix("features."): v for k, v in features.items()}
    torch.save(wrap({prefix + name: tensor for name, tensor in own.items()}), path)
    report = load_weights(light, {**model_config("light"), "weights": str(path)})
    assert report.share_of_body == 1.0
    for name, tensor in body_of(light).items():
        assert torch.equal(tensor, features["features." + name.removeprefix("backbone.body.")])


def test_what_a_backbone_lacks_is_reported_as_reinitialised_and_its_rest_as_skipped(light, features):
    report = fit_state_dict(light, features, "here")
    assert {name.split(".")[0] for name, _, _ in report.reinitialised} == {"backbone", "rpn", "roi_heads"}
    assert all(not name.startswith("backbone.body.") for name, _, _ in report.reinitialised)
    skipped = dict(report.skipped)
    assert any(shape == (1280, 320, 1, 1) for shape in skipped.values())  # the last 1 × 1 convolution is not needed


def test_safetensors_and_lightning_checkpoints_are_read_too(light, tmp_path):
    state = {name: torch.randn_like(t) for name, t in light.state_dict().items()}
    save_file({name: t.contiguous() for name, t in state.items()}, tmp_path / "a.safetensors")
    torch.save({"state_dict": {f"model.{k}": v for k, v in state.items()}, "epoch": 1}, tmp_path / "b.ckpt")
    for name in ("a.safetensors", "b.ckpt"):
        model = build_model(model_config("light"), num_classes=3)
        report = fit_state_dict(model, read_weights(tmp_path / name)[0], name)
        assert report.reinitialised == []
        assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())


def test_other_classes_reinitialise_only_the_predictors(light):
    state = {name: torch.randn_like(t) for name, t in light.state_dict().items()}
    model = build_model(model_config("light"), num_classes=8)
    report = fit_state_dict(model, state, "here")
    changed = {name: (shape, found) for name, shape, found in report.reinitialised}
    assert changed["roi_heads.box_predictor.cls_score.weight"] == ((8, 256), (3, 256))
    assert {name.split(".")[1] for name in changed} == {"box_predictor", "mask_predictor"}


def test_torchvisions_old_parameter_names_still_load():
    model = build_model(model_config("resnet50_fpn"), num_classes=91)
    old = {}
    for name, tensor in model.state_dict().items():
        name = re.sub(r"(rpn\.head\.conv)\.0\.0\.", r"\1.", name)
        name = re.sub(r"(fpn\.\w+_blocks\.\d)\.0\.", r"\1.", name)
        if name.startswith("roi_heads.mask_head."):
            block = int(name.split(".")[2])
            name = f"roi_heads.mask_head.mask_fcn{block + 1}.{name.split('.')[-1]}"
        old[name] = tensor + 1
    assert "rpn.head.conv.weight" in old
    assert "backbone.fpn.inner_blocks.0.weight" in old
    assert "roi_heads.mask_head.mask_fcn1.weight" in old
    assert fit_state_dict(model, old, "published").reinitialised == []


def test_the_weights_of_another_architecture_are_refused_with_examples_of_both(light):
    with pytest.raises(WeightsError, match=r"only \d+% of the backbone.*layer"):
        fit_state_dict(light, resnet18(weights=None).state_dict(), "resnet18.pth")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("absent.pth", None, "no such file"),
        ("text.pth", b"hello, I am no checkpoint", "not a file of weights"),
        ("empty.pth", b"", "not a file of weights"),
        ("text.safetensors", b"neither am I", "not a file of weights"),
    ],
)
def test_files_that_are_no_weights(tmp_path, name, content, reason):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match=reason):
        read_weights(path)


def test_a_file_that_would_run_code_is_not_unpickled(tmp_path):
    class Payload:
        def __reduce__(self):
            return (print, ("unpickled",))

    torch.save({"state_dict": Payload()}, tmp_path / "evil.pth")
    with pytest.raises(WeightsError, match="read safely") as caught:
        read_weights(tmp_path / "evil.pth")
    assert "print" in str(caught.value)
    assert "weights_only" not in str(caught.value)  # torch's own advice is to switch its safety off


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_file_that_was_cut_short_says_so(tmp_path, share):
    path = tmp_path / "whole.pth"
    torch.save({"w": torch.zeros(5000)}, path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(WeightsError, match="it is empty" if share == 0.0 else "cut short or damaged"):
        read_weights(path)


OWN, AVERAGED = {"w": torch.zeros(2)}, {"w": torch.ones(2)}


@pytest.mark.parametrize(
    "content",
    [
        {"model": OWN, "ema": AVERAGED},
        {"model": OWN, "ema": {"module": AVERAGED, "updates": 7}},
        {"ema_state_dict": AVERAGED},
        {"state_dict": OWN, "state_dict_ema": AVERAGED},
        {"model": OWN, "model_ema": {"n_averaged": torch.tensor(3), "module.w": torch.ones(2)}},
        {"model": {"ema": AVERAGED, "w": torch.zeros(2)}},
        {"ema": {"state_dict": AVERAGED}, "epoch": 3},
    ],
)
def test_averaged_weights_are_taken_and_said(tmp_path, content, caplog):
    torch.save(content, tmp_path / "a.pth")
    with caplog.at_level("INFO", logger="finemask"):
        found = read_weights(tmp_path / "a.pth")[0]
    assert [tensor.tolist() for tensor in found.values() if tensor.ndim] == [[1.0, 1.0]]
    assert "its averaged weights are taken" in caplog.text


@pytest.mark.parametrize("empty", [{}, {"decay": 0.99}, {"updates": torch.tensor(3)}, None, [1.0]])
def test_an_average_without_weights_is_none(tmp_path, empty, caplog):
    torch.save({"model": OWN, "ema": empty}, tmp_path / "a.pth")
    assert read_weights(tmp_path / "a.pth")[0]["w"].tolist() == [0.0, 0.0]
    assert "averaged" not in caplog.text


def test_the_count_of_an_average_is_no_weight_of_the_model(light, features):
    averaged = {f"module.{name}": tensor for name, tensor in features.items()} | {"n_averaged": torch.tensor(5)}
    assert fit_state_dict(light, averaged, "here").share_of_body == 1.0


def test_a_file_without_tensors(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "numbers.pth")
    with pytest.raises(WeightsError, match="no tensors"):
        read_weights(tmp_path / "numbers.pth")


def test_no_network_and_no_cached_file_says_what_to_put_where(monkeypatch, tmp_path):
    def unreachable(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr("torch.hub.download_url_to_file", unreachable)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    config = model_config("resnet50_fpn")
    with pytest.raises(WeightsError, match=r"maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth") as caught:
        load_weights(build_model(config, 2), config)
    assert str(tmp_path) in str(caught.value)


def test_a_cached_file_is_used_without_a_network(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    model = build_model(model_config("resnet18_fpn"), 2)
    path = tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    path.parent.mkdir(parents=True)
    torch.save(resnet18(weights=None).state_dict(), path)
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", lambda *a, **k: torch.load(path, weights_only=True))
    monkeypatch.setattr(
        "torchvision.models._api.load_state_dict_from_url",
        lambda *a, **k: torch.load(path, weights_only=True),
    )
    report = load_weights(model, model_config("resnet18_fpn"))
    assert report.share_of_body == 1.0


def test_architectures_without_coco_weights_say_so():
    config = {**model_config("light"), "weights": "coco"}
    with pytest.raises(WeightsError, match="no COCO weights for light"):
        load_weights(build_model(config, 2), config)


def test_real_weights_fill_the_whole_backbone(light, shared_dir):
    path = shared_dir / "weights" / "mobilenet_v2" / "mobilenet_v2_torchvision_features.pth"
    report = fit_state_dict(light, read_weights(path)[0], str(path))
    assert report.share_of_body == 1.0


def test_real_weights_under_foreign_names_are_refused(shared_dir):
    """They load into timm without an error and leave the whole backbone random."""
    folder = shared_dir / "weights" / "efficientnet_lite0"
    config = model_config("timm_fpn", "model.backbone.name=tf_efficientnet_lite0")
    model = build_model(config, 2)
    report = fit_state_dict(model, read_weights(folder / "tf_efficientnet_lite0_timm.pth")[0], "timm")
    assert report.share_of_body == 1.0
    with pytest.raises(WeightsError, match="another key naming"):
        fit_state_dict(model, read_weights(folder / "other_key_names.pth")[0], "other")


def randomised(model):
    return {name: torch.randn_like(t) if t.is_floating_point() else t for name, t in model.state_dict().items()}


def test_stages_of_a_cascade_begin_as_the_plain_head():
    state = randomised(build_parts())
    model = build_parts(box_predictor="cascade")
    report = fit_state_dict(model, state, "plain")
    for stage in model.roi_heads.box_predictor.later:
        for name, tensor in stage.box_head.state_dict().items():
            assert torch.equal(tensor, state[f"roi_heads.box_head.{name}"])
        assert torch.equal(stage.cls_score.weight, state["roi_heads.box_predictor.cls_score.weight"])
    prefix = "roi_heads.box_predictor.later.1."
    assert report.seeds[f"{prefix}box_head.fc7.bias"] == "roi_heads.box_head.fc7.bias"
    assert f"{prefix}cls_score.weight" in report.loaded
    reinitialised = {name: (shape, found) for name, shape, found in report.reinitialised}
    # deltas for all classes at once are another layer than those for each
    assert reinitialised.pop(f"{prefix}bbox_pred.weight") == ((4, 128), (16, 128))
    assert {name.split(".")[-2] for name in reinitialised} == {"bbox_pred"}


def test_experts_begin_as_the_plain_head_and_keep_what_is_their_own():
    state = randomised(build_parts())
    model = build_parts(box_predictor="multi_expert predictor=own")
    report = fit_state_dict(model, state, "plain")
    assert report.reinitialised == []
    predictor = model.roi_heads.box_predictor
    assert all(torch.equal(head.fc6.weight, state["roi_heads.box_head.fc6.weight"]) for head in predictor.heads)
    assert all(
        torch.equal(own.bbox_pred.weight, state["roi_heads.box_predictor.bbox_pred.weight"])
        for own in predictor.predictors
    )
    own = randomised(model)
    again = fit_state_dict(model, own, "experts")
    assert again.seeds == {}
    assert all(torch.equal(tensor, own[name]) for name, tensor in model.state_dict().items())


def test_experts_are_copies_of_the_model_s_head_before_anything_is_loaded():
    model = build_parts(box_predictor="multi_expert")
    expected = model.roi_heads.box_head.state_dict()
    for head in model.roi_heads.box_predictor.heads:
        assert all(torch.equal(tensor, expected[name]) for name, tensor in head.state_dict().items())
        assert head.fc6.weight.data_ptr() != model.roi_heads.box_head.fc6.weight.data_ptr()


@pytest.mark.parametrize("option", ["multi_expert", "cascade"])
def test_a_head_with_batch_norm_is_copied_as_well(option):
    config = parts_config(box_predictor=option)
    config["box_head"] = {
        "_target_": "finemask.model.box_predictor.box_branch.conv_fc",
        "channels": [8, 8],
        "representation_size": 16,
    }
    model = build_model(config, NUM_CLASSES)
    batch = second_stage_input((1, 0), 3)  # few enough that an expert may get no RoI
    torch.stack(list(second_stage_losses(model, batch).values())).sum().backward()
    assert without_gradient(model) == []
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())
    predictor = model.roi_heads.box_predictor
    seeds = set(predictor.seeds())
    plain = {name.removeprefix("box_head.") for name in predictor.seeds().values() if name.startswith("box_head.")}
    assert plain == set(model.roi_heads.box_head.state_dict())
    assert seeds <= set(model.roi_heads.state_dict())


def test_the_table_of_weights_says_what_was_copied():
    model = build_parts(box_predictor="multi_expert")
    table = weights_table(fit_state_dict(model, randomised(build_parts()), "plain"))
    console = Console(width=200)
    with console.capture() as shown:
        console.print(table)
    assert "roi_heads.box_predictor: 8 of the tensors loaded are copies of roi_heads.box_head's" in shown.get()


def test_a_plain_model_has_no_seeds():
    assert fit_state_dict(build_parts(), randomised(build_parts()), "plain").seeds == {}
