"""How the options of predict and evaluate change a model that was trained long ago."""

import json

import numpy as np
import pytest
import torch
from inference_data import CATEGORIES, ColourModel, colour_header, make_instances, rectangles
from model_cases import model_config
from PIL import Image

from finemask import cli
from finemask.config import compose, config_dir, plain
from finemask.config.config_files import group_options
from finemask.data.shapes import draw_shapes
from finemask.errors import ConfigError
from finemask.inference.predictor import Predictor
from finemask.inference.tta import AugmentedMaskRCNN
from finemask.model.build import build_model, build_suppression
from finemask.model.suppression import NMS, MaskNMS, SoftNMS
from finemask.model_file import load_model_file, save_model_file
from finemask.workflows import predict_images as predict
from finemask.workflows.detect_split import options_in_words, settings_in_use, with_options

NOTHING = dict.fromkeys(("suppression", "nms_thresh", "detections_per_img", "tta", "refine"))


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    """A file whose model suppresses by masks."""
    config = model_config("tiny", "model/suppression=mask", "model.roi_heads.nms_thresh=0.3")
    torch.manual_seed(0)
    model = build_model(config, num_classes=len(CATEGORIES) + 1)
    path = tmp_path_factory.mktemp("file") / "model.safetensors"
    save_model_file(path, model.state_dict(), colour_header(model=config, preprocessing=model.preprocessing))
    return path


def changed(path, **options):
    model, header = load_model_file(path)
    return with_options(model, header, NOTHING | options)


def test_the_file_says_how_detections_are_made_until_an_option_does(model_file):
    heads = changed(model_file).roi_heads
    assert (type(heads.suppression), heads.suppression.iou_thresh) == (MaskNMS, 0.3)
    heads = changed(model_file, nms_thresh=0.7).roi_heads
    assert (type(heads.suppression), heads.suppression.iou_thresh) == (MaskNMS, 0.7)
    heads = changed(model_file, suppression="nms").roi_heads
    assert (type(heads.suppression), heads.suppression.iou_thresh) == (NMS, 0.3)
    heads = changed(model_file, suppression="soft_linear", nms_thresh=0.2, detections_per_img=9).roi_heads
    assert (type(heads.suppression), heads.suppression.iou_thresh, heads.detections_per_img) == (SoftNMS, 0.2, 9)
    augmented = changed(model_file, tta=["flip", 160])
    assert isinstance(augmented, AugmentedMaskRCNN)
    assert [tuple(view) for view in augmented.views] == [(160, False), (160, True)]


@pytest.mark.parametrize("name", group_options("model/suppression", [config_dir()]))
def test_an_option_is_the_part_that_training_would_have_chosen(model_file, name):
    chosen = changed(model_file, suppression=name).roi_heads.suppression
    trained = build_suppression(model_config("tiny", f"model/suppression={name}", "model.roi_heads.nms_thresh=0.3"))
    assert (type(chosen), vars(chosen)) == (type(trained), vars(trained))


def test_a_file_from_before_there_was_a_choice(model_file):
    model, header = load_model_file(model_file)
    old = {key: value for key, value in header.model.items() if key != "suppression"}
    heads = with_options(model, colour_header(model=old), NOTHING | {"nms_thresh": 0.6}).roi_heads
    assert (type(heads.suppression), heads.suppression.iou_thresh) == (NMS, 0.6)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["suppression=sof_linear"], "suppression cannot be 'sof_linear'. It is .*soft_linear"),
        (["suppression=soft_gaussian", "nms_thresh=0.5"], "soft_linear"),
        (["nms_thresh=1.5"], "nms_thresh cannot be 1.5. It is null or a number from 0 to 1"),
        (["nms_thresh=much"], "nms_thresh cannot be 'much'. It is null or a number from 0 to 1"),
        (["detections_per_img=0"], "at least 1"),
        (["tta=flop"], "tta cannot be 'flop'. It is null, flip"),
    ],
)
def test_values_that_cannot_be(model_file, words, message):
    with pytest.raises(ConfigError, match=message):
        changed(model_file, **plain(compose("predict", ["model=m", "source=s", *words])))


def test_options_need_a_mask_rcnn():
    model = ColourModel()
    assert with_options(model, colour_header(), NOTHING) is model
    with pytest.raises(ConfigError, match="ColourModel"):
        with_options(model, colour_header(), NOTHING | {"tta": "flip"})


def test_what_was_changed_is_said():
    assert options_in_words(NOTHING) == ""
    assert options_in_words(NOTHING | {"tta": ["flip", 240], "refine": "sobel"}) == "tta=[flip, 240] refine=sobel"


def test_instances_can_be_refined_on_their_image():
    sharp = np.zeros((40, 50), bool)
    sharp[10:30, 10:35] = True
    loose = np.zeros((1, 40, 50), bool)
    loose[0, 8:32, 8:37] = True
    image = np.where(sharp[..., None], 200, 40).astype(np.uint8).repeat(3, axis=2)
    found = make_instances(loose, [1], image=image).refined()
    assert (found.masks[0] ^ sharp).sum() <= 4  # its corners, which Sobel's operator rounds
    assert np.array_equal(found.boxes, make_instances(loose, [1]).boxes)
    elsewhere = make_instances(loose, [1]).refined(Image.fromarray(image))
    assert np.array_equal(elsewhere.masks, found.masks)
    with pytest.raises(ValueError, match="image"):
        make_instances(loose, [1]).refined()


def test_duplicates_are_counted_across_classes():
    masks = np.zeros((4, 20, 20), bool)
    masks[0, 2:12, 2:12] = True
    masks[1, 2:12, 12:20] = True
    masks[2, 3:12, 2:12] = True  # most of the first, as another class
    masks[3, 2:12, 7:17] = True  # half of the first, half of the second
    found = make_instances(masks, [1, 1, 2, 1], [0.9, 0.8, 0.7, 0.6])
    assert found.duplicates().tolist() == [2]
    assert found.duplicates(0.3).tolist() == [2, 3]
    assert found[[]].duplicates().tolist() == []


def test_predict_says_how_many_duplicates_there_are(tmp_path, monkeypatch, capsys):
    class Twice(ColourModel):
        """Finds everything again, as the next class."""

        def _detect(self, image):
            once = super()._detect(image)
            twice = {key: torch.cat([once[key]] * 2) for key in ("boxes", "scores", "mask_probs")}
            labels = torch.cat([once["labels"], once["labels"] + 1])
            return {**once, **twice, "labels": labels}

    Image.fromarray(rectangles(red=(5, 6, 25, 20))).save(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    for model, expected in ((Twice(), True), (ColourModel(), False)):
        monkeypatch.setattr(predict, "load", lambda path, device, trust, m=model: Predictor(m, colour_header()))
        assert cli.main(["predict", "model=m", "source=a.png", "output=out", "save=coco"]) == 0
        said = "1 instance (50 %) on top of a better one" in capsys.readouterr().out
        assert said == expected


def test_predict_and_evaluate_take_them_all(model_file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    root = draw_shapes(tmp_path / "shapes", images=5, size=64, seed=2)
    document = json.loads((root / "annotations/val.json").read_text())
    names = [category.name for category in CATEGORIES]
    for split in ("train", "val"):
        path = root / f"annotations/{split}.json"
        content = json.loads(path.read_text())
        content["categories"] = [
            {"id": category["id"], "name": name} for category, name in zip(content["categories"], names, strict=False)
        ]
        kept = {category["id"] for category in content["categories"]}
        content["annotations"] = [entry for entry in content["annotations"] if entry["category_id"] in kept]
        path.write_text(json.dumps(content))
    options = ["suppression=soft_gaussian", "detections_per_img=5", "tta=[flip,96]", "refine=sobel"]
    words = [f"model={model_file}", "device=cpu", *options]
    assert cli.main(["evaluate", *words, "data.root=shapes", "output=scores", "num_workers=1"]) == 0
    results = json.loads((tmp_path / "scores/predictions.json").read_text())
    images = [image["id"] for image in document["images"]]
    counts = [sum(entry["image_id"] == id_ for entry in results) for id_ in images]
    assert max(counts) == 5
    assert "tta=[flip, 96]" in (tmp_path / "scores/report/index.html").read_text()
    source = f"source={root}/images"
    assert cli.main(["predict", *words, source, "output=found", "save=coco", "threshold=0"]) == 0
    found = json.loads((tmp_path / "found/predictions.json").read_text())
    by_score = {round(entry["score"], 6): entry["segmentation"]["counts"] for entry in found}
    assert len(results) > 0
    assert all(by_score[round(entry["score"], 6)] == entry["segmentation"]["counts"] for entry in results)


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "model=m", "source=.", "refine=canny"],
        ["evaluate", "model=m", "data.root=d", "output=o", "refine=canny"],
    ],
)
def test_an_unknown_refinement(words, capsys):
    assert cli.main(words) == 2
    assert "refine cannot be 'canny'. It is null or sobel." in capsys.readouterr().err


def test_a_results_file_is_scored_as_it_is(capsys):
    assert cli.main(["evaluate", "predictions=p", "annotations=a", "output=o", "tta=flip"]) == 2
    assert "tta= needs model=" in capsys.readouterr().err


def test_advice_knows_the_model_and_what_was_typed(model_file):
    header = load_model_file(model_file)[1]
    own = header.model["roi_heads"]
    assert settings_in_use(header, NOTHING) == {
        "model.min_size": header.model["min_size"],
        "model.roi_heads.nms_thresh": own["nms_thresh"],
        "model.roi_heads.detections_per_img": own["detections_per_img"],
    }
    typed = settings_in_use(header, NOTHING | {"nms_thresh": 0.3, "detections_per_img": 7})
    assert (typed["model.roi_heads.nms_thresh"], typed["model.roi_heads.detections_per_img"]) == (0.3, 7)
