"""Rows of heads by the name of their class, checked row by row against the source."""

import pytest
import torch
from model_cases import model_config, random_scene
from safetensors.torch import save_file
from torchvision.models.detection import MaskRCNN_ResNet50_FPN_Weights

from finemask.errors import ConfigError
from finemask.model.build import build_model
from finemask.model.pretrained.class_rows import choose_rows
from finemask.model.pretrained.weights import load_weights
from finemask.model_file import save_model_file
from finemask.model_header import ModelHeader
from finemask.types import Category

SCORES, DELTAS, MASKS = (
    "roi_heads.box_predictor.cls_score.weight",
    "roi_heads.box_predictor.bbox_pred.weight",
    "roi_heads.mask_predictor.mask_fcn_logits.weight",
)
SOURCE = ["car", "truck", "Boat"]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A model of three classes, and the file it was saved to."""
    torch.manual_seed(3)
    model = build_model(model_config("tiny"), num_classes=4).eval()
    path = tmp_path_factory.mktemp("source") / "model.safetensors"
    header = ModelHeader(
        model=model_config("tiny"),
        categories=[Category(10 * (k + 1), name) for k, name in enumerate(SOURCE)],
        preprocessing=model.preprocessing,
    )
    save_model_file(path, model.state_dict(), header)
    return model, path


def loaded(path, names, wish="auto"):
    model = build_model(model_config("tiny"), num_classes=len(names) + 1).eval()
    fresh = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    config = {**model_config("tiny"), "weights": str(path), "class_transfer": wish}
    return model, fresh, load_weights(model, config, names)


def rows(state, name, label, each=1):
    return state[name][label * each : (label + 1) * each]


def test_the_same_classes_give_the_same_model_bit_by_bit(source):
    theirs, path = source
    ours, _, report = loaded(path, SOURCE)
    assert report.reinitialised == []
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(tensor, ours.state_dict()[name]), name
    image, _, _ = random_scene(80, 96, 4)
    for model in (theirs, ours):
        model.roi_heads.score_thresh = 0.0
    with torch.inference_mode():
        (expected,), (found,) = theirs([image]), ours([image])
    assert len(expected["scores"]) > 0
    for key in ("boxes", "labels", "scores", "mask_probs"):
        assert torch.equal(expected[key], found[key]), key


def test_another_order_of_the_same_classes_permutes_the_rows(source):
    theirs, path = source
    ours, _, report = loaded(path, ["boat", "car", "truck"])  # upper and lower case do not matter
    before, after = theirs.state_dict(), ours.state_dict()
    for mine, row in enumerate([0, 3, 1, 2]):
        for name, each in ((SCORES, 1), (DELTAS, 4), (MASKS, 1)):
            assert torch.equal(rows(after, name, mine, each), rows(before, name, row, each)), (name, mine)
    assert report.class_rows.taken == [("boat", ("Boat",)), ("car", ("car",)), ("truck", ("truck",))]
    shared = {name for name in after if "box_predictor" not in name and "mask_fcn_logits" not in name}
    assert all(torch.equal(before[name], after[name]) for name in shared)


def test_known_classes_take_their_rows_and_unknown_ones_keep_random_ones(source):
    theirs, path = source
    ours, fresh, report = loaded(path, ["crane", "car"])
    before, after = theirs.state_dict(), ours.state_dict()
    assert torch.equal(rows(after, SCORES, 0), rows(before, SCORES, 0)), "background goes along"
    assert torch.equal(rows(after, SCORES, 2), rows(before, SCORES, 1))
    assert torch.equal(rows(after, SCORES, 1), rows(fresh, SCORES, 1))
    assert report.class_rows.taken == [("crane", ()), ("car", ("car",))]
    assert {SCORES, DELTAS, MASKS} < set(report.class_rows.carried)


def test_several_sources_are_averaged(source):
    theirs, path = source
    ours, _, report = loaded(path, ["mine", "boat"], {"mine": ["car", "truck"], "boat": []})
    before, after = theirs.state_dict(), ours.state_dict()
    for name, each in ((SCORES, 1), (DELTAS, 4), (MASKS, 1)):
        expected = (rows(before, name, 1, each) + rows(before, name, 2, each)) / 2
        assert torch.allclose(rows(after, name, 1, each), expected, atol=1e-7), name
    assert report.class_rows.taken == [("mine", ("car", "truck")), ("boat", ())]


@pytest.mark.parametrize(("names", "wish"), [(["ship", "plane", "bus"], "auto"), (SOURCE, "none")])
def test_no_row_is_taken_for_a_class_of_another_name(source, names, wish):
    """As many classes as in the file, so that the shapes fit: torch alone would load them."""
    _, path = source
    ours, fresh, report = loaded(path, names, wish)
    for name in (SCORES, DELTAS, MASKS):
        assert torch.equal(ours.state_dict()[name], fresh[name])
    assert not report.class_rows.any
    assert {name for name, _, _ in report.reinitialised} >= {SCORES, DELTAS, MASKS}
    assert report.class_rows.carried == []


@pytest.mark.parametrize(
    ("names", "wish", "reason"),
    [
        (["mine"], {"mien": ["car"]}, "no class 'mien' in the data; similar: mine"),
        (["mine"], {"mine": ["cat"]}, "weights have no class 'cat'; similar: car"),
        (["mine"], "al", "'al' is not auto, none or a mapping"),
    ],
)
def test_wishes_that_cannot_be_followed(source, names, wish, reason):
    with pytest.raises(ConfigError, match=reason):
        loaded(source[1], names, wish)


def test_a_file_without_names_is_read_in_order_where_it_has_as_many_classes(source, tmp_path):
    theirs, _ = source
    state = {name: tensor.contiguous() for name, tensor in theirs.state_dict().items()}
    save_file(state, tmp_path / "bare.safetensors")
    ours, _, report = loaded(tmp_path / "bare.safetensors", ["a", "b", "c"])
    assert torch.equal(ours.state_dict()[SCORES], theirs.state_dict()[SCORES])
    assert "in order" in report.class_rows.notes[0]
    ours, fresh, report = loaded(tmp_path / "bare.safetensors", ["car", "b"])
    assert torch.equal(ours.state_dict()[SCORES], fresh[SCORES])
    with pytest.raises(ConfigError, match="does not name its classes"):
        loaded(tmp_path / "bare.safetensors", ["a"], {"a": ["car"]})


def test_a_checkpoint_names_its_classes_too(source, tmp_path):
    theirs, _ = source
    state = {f"model.{name}": tensor for name, tensor in theirs.state_dict().items()}
    torch.save({"state_dict": state, "class_names": SOURCE}, tmp_path / "last.ckpt")
    ours, _, _ = loaded(tmp_path / "last.ckpt", ["truck"])
    assert torch.equal(rows(ours.state_dict(), SCORES, 1), rows(theirs.state_dict(), SCORES, 2))


def test_a_layer_of_another_kind_keeps_its_own_rows_and_says_so(source, tmp_path):
    """As from a cosine predictor, whose scores have no bias: a length of its rows means nothing."""
    theirs, _ = source
    state = {f"model.{name}": tensor for name, tensor in theirs.state_dict().items()}
    state.pop("model.roi_heads.box_predictor.cls_score.bias")
    torch.save({"state_dict": state, "class_names": SOURCE}, tmp_path / "cosine.ckpt")
    ours, fresh, report = loaded(tmp_path / "cosine.ckpt", SOURCE)
    after = ours.state_dict()
    assert torch.equal(after[SCORES], fresh[SCORES])
    assert torch.equal(after[DELTAS], theirs.state_dict()[DELTAS])
    assert torch.equal(after[MASKS], theirs.state_dict()[MASKS])
    (note,) = report.class_rows.notes
    assert note == "roi_heads.box_predictor.cls_score: of another kind than in the file, its rows are random"


def test_the_91_rows_of_torchvision_are_known_by_name(tmp_path):
    """Each row of a made-up file in torchvision's layout holds its own number."""
    names = MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    config = model_config("tiny")
    state = build_model(config, num_classes=91).state_dict()
    state[SCORES] = torch.arange(91.0)[:, None].expand_as(state[SCORES]).clone()
    torch.save(state, tmp_path / "maskrcnn_resnet50_fpn_coco.pth")
    model, _, report = loaded(tmp_path / "maskrcnn_resnet50_fpn_coco.pth", ["Teddy Bear", "nucleus", "person"])
    assert names[88] == "teddy bear"
    assert model.state_dict()[SCORES][[0, 1, 3], 0].tolist() == [0.0, 88.0, 1.0]
    assert report.class_rows.taken == [("Teddy Bear", ("teddy bear",)), ("nucleus", ()), ("person", ("person",))]
    assert "COCO" in report.class_rows.notes[0]


def test_an_exact_name_comes_before_one_in_another_case():
    assert choose_rows(["car", "Car", "CAR"], ["Car", "car"]) == [(2,), (1,), (1, 2)]


def test_weights_that_know_objects_alone_start_every_class(tmp_path):
    torch.manual_seed(4)
    theirs = build_model(model_config("tiny"), num_classes=2)
    header = ModelHeader(
        model=model_config("tiny"), categories=[Category(1, "object")], preprocessing=theirs.preprocessing
    )
    path = tmp_path / "objects.safetensors"
    save_model_file(path, {name: tensor.half() for name, tensor in theirs.state_dict().items()}, header)
    ours, _, report = loaded(path, ["fig", "date"])
    assert report.class_rows.taken == [("fig", ("object",)), ("date", ("object",))]
    assert report.reinitialised == []
    for name, each in ((SCORES, 1), (DELTAS, 4), (MASKS, 1)):
        found, source = ours.state_dict()[name], theirs.state_dict()[name].half().float()
        assert torch.equal(found[:each], source[:each])  # background
        for label in (1, 2):
            assert torch.equal(found[label * each : (label + 1) * each], source[each:])


def test_a_mapping_wins_over_the_object_of_every_class():
    assert choose_rows(["fig", "date"], ["object"], {"fig": []}) == [(), (1,)]
    assert choose_rows(["fig", "object"], ["object", "date"]) == [(), (1,)]  # one class among others
