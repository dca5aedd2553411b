"""The tables of a run, as plain text."""

import io
import json

import pytest
import torch
from model_cases import model_config
from rich.console import Console
from torch import nn

from finemask.coco.index import CocoIndex
from finemask.model.build import build_model
from finemask.model.pretrained.class_rows import Classes
from finemask.model.pretrained.transfer import Transfer, apply_transfer
from finemask.model.pretrained.weights import fit_state_dict
from finemask.training.tables import classes_table, data_table, model_table, weights_table


def text_of(table, width=160):
    plain = io.StringIO()
    Console(file=plain, width=width).print(table)
    return plain.getvalue()


@pytest.fixture(scope="module")
def tiny():
    return build_model(model_config("tiny"), num_classes=3)


def test_the_data_table_counts_objects_and_no_crowds(tmp_path):
    square = {"category_id": 1, "segmentation": [[1, 1, 6, 1, 6, 6, 1, 6]]}
    crowd = {"category_id": 1, "iscrowd": 1, "bbox": [0, 0, 4, 4]}
    owners = [(1, square), (1, square), (1, crowd), (2, square), (2, crowd), (2, crowd)]
    document = {
        "images": [{"id": i, "file_name": f"{i}.png", "height": 8, "width": 8} for i in (1, 2)],
        "categories": [{"id": 1, "name": "cell"}],
        "annotations": [entry | {"id": k, "image_id": i} for k, (i, entry) in enumerate(owners)],
    }
    (tmp_path / "t.json").write_text(json.dumps(document))
    lines = text_of(data_table({"train": CocoIndex.read(tmp_path / "t.json", None)}, 1, tmp_path)).splitlines()
    (row,) = [line for line in lines if "train" in line and "│" in line]
    assert [cell.strip() for cell in row.split("│")[1:6]] == ["train", "2", "3", "2", "t.json"]
    assert lines[-1].strip() == "train has 3 crowds, which are not learned and not measured: cell 3"


def test_the_model_table_adds_up_and_tells_trained_from_frozen(tiny):
    apply_transfer(tiny, Transfer(trainable_stages=0))
    lines = text_of(model_table(tiny, model_config("tiny"))).splitlines()
    body = next(line for line in lines if "backbone.body" in line)
    count = sum(p.numel() for p in tiny.backbone.body.parameters())
    assert [cell.strip() for cell in body.split("│")[2:5]] == [f"{count:,}", "0", f"{count:,}"]
    total = next(line for line in lines if " all " in line)
    assert f"{sum(p.numel() for p in tiny.parameters()):,}" in total


def test_the_weights_table_counts_each_part_and_shows_shapes(tiny):
    donor = build_model(model_config("tiny"), num_classes=6).state_dict()
    donor["classifier.weight"] = donor["rpn.head.cls_logits.bias"]
    text = text_of(weights_table(fit_state_dict(tiny, donor, "donor.pth")))
    assert "Weights: donor.pth" in text
    predictor = next(line for line in text.splitlines() if "box_predictor" in line and "│" in line)
    assert [cell.strip() for cell in predictor.split("│")[2:5]] == ["–", "4", "–"]
    assert "roi_heads.box_predictor.cls_score.weight: [6, 128] in the file, [3, 128] in the model" in " ".join(
        text.split()
    )
    assert "classifier.weight" in text


def test_what_a_published_backbone_has_over_is_one_sentence(tiny):
    donor = {name: tensor.clone() for name, tensor in tiny.backbone.body.state_dict().items()}
    donor |= {"conv_head.weight": torch.zeros(8, 4, 1, 1), "bn2.weight": torch.zeros(8), "bn2.bias": torch.zeros(8)}
    donor |= {"classifier.weight": torch.zeros(1000, 8), "classifier.bias": torch.zeros(1000)}
    text = text_of(weights_table(fit_state_dict(tiny, donor, "imagenet.pth")))
    assert "not needed: what the file has to classify whole images (conv_head, bn2, classifier)\n" in text
    assert "[1000" not in text


def test_rows_carried_by_class_name_are_told_from_the_rest(tiny):
    donor = build_model(model_config("tiny"), num_classes=4).state_dict()
    classes = Classes(["car", "[bold]"], ["truck", "car", "boat"], {"[bold]": ["truck", "boat"]})
    report = fit_state_dict(tiny, donor, "donor.pth", classes)
    assert "… " not in text_of(weights_table(report), width=80), "no word is cut short on a usual terminal"
    lines = text_of(weights_table(report)).splitlines()
    predictor = next(line for line in lines if "box_predictor" in line and "│" in line)
    assert [cell.strip() for cell in predictor.split("│")[2:6]] == ["–", "–", "–", "4"]
    cells = [
        [c.strip() for c in line.split("│")[1:3]] for line in text_of(classes_table(report.class_rows)).splitlines()
    ]
    assert [row for row in cells if len(row) == 2] == [
        ["car", "car"],
        ["[bold]", "mean of truck, boat"],
        ["(background)", "background"],
    ]


def test_the_model_table_tells_when_parts_are_freed_and_what_norms_do(tiny):
    apply_transfer(tiny, Transfer())
    words = " ".join(text_of(model_table(tiny, model_config("tiny"), begins=[0, 1, 1, 2, 4])).split())
    assert "stride 16 from epoch 2, stride 8 from epoch 2, stride 4 from epoch 3, stem from epoch 5" in words
    norms = sum(isinstance(m, nn.BatchNorm2d) for m in tiny.modules())
    assert f"batch norm: {norms} layers learn scales and gather statistics" in words
