"""What the demo's scripts compute, run by Node beside the Python that says the same."""

import json
import shutil
import subprocess

import numpy as np
import pytest
from inference_data import CATEGORIES, make_instances
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from finemask.ops.colours import colours, text_colour
from finemask.ops.contours import mask_to_polygons
from finemask.ops.rle import rle_area, rle_to_crop
from finemask.serving.demo_page import page_files

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="needs Node.js, which runs the page's scripts without a browser")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Runs a script that may import the page's; what it gives to ``answer`` comes back."""
    folder = tmp_path_factory.mktemp("page")
    for name, file in page_files().items():
        (folder / name).write_bytes(file.content)
    (folder / "package.json").write_text('{"type": "module"}')

    def run_script(script, **given):
        lines = f"const given = {json.dumps(given)};\nconst answer = value => console.log(JSON.stringify(value));\n"
        (folder / "script.js").write_text(script.split("\n---\n")[0] + "\n" + lines + script.split("\n---\n")[-1])
        command = [NODE, "script.js"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run_script


def rings_of(rle, tolerance_px=0.0):
    parts = mask_to_polygons(*rle_to_crop(rle), tolerance_px=tolerance_px)
    return [[float(value) for value in ring.ravel()] for part in parts for ring in (part.outer, *part.holes)]


def answer_of(instances, tolerance_px=0.0):
    height, width = instances.image_size_hw
    columns = zip(instances.boxes, instances.labels, instances.scores, instances.rles, strict=True)
    found = [
        {
            "id": number,
            "category_id": CATEGORIES[label - 1].id,
            "category": CATEGORIES[label - 1].name,
            "score": float(score),
            "box": [float(side) for side in box],
            "area": rle_area(rle),
            "polygons": rings_of(rle, tolerance_px),
        }
        for number, (box, label, score, rle) in enumerate(columns, start=1)
    ]
    return {"image": {"name": "a.jpg", "width": width, "height": height}, "instances": found}


def blobs(seed, count=6, height=37, width=53):
    """Masks with holes, parts, single pixels and pixels at each edge; instances by score."""
    random = np.random.default_rng(seed)
    masks = np.zeros((count, height, width), dtype=bool)
    for mask in masks:
        for _ in range(random.integers(1, 4)):
            y, x = random.integers(0, height), random.integers(0, width)
            mask[max(0, y - random.integers(0, 12)) : y + 9, max(0, x - random.integers(0, 12)) : x + 9] = True
        mask &= random.random((height, width)) < random.choice([0.6, 0.95, 1.0])
        mask[random.integers(0, height), random.integers(0, width)] = True
    scores = np.sort(random.random(count))[::-1].round(3)
    return make_instances(masks, random.integers(1, 4, count), scores)


@pytest.mark.parametrize("seed", range(4))
def test_run_lengths_are_those_of_the_mask(run, seed):
    instances = blobs(seed)
    counts = run(
        'import { runLengths } from "./outlines.js";\n---\n'
        "answer(given.answer.instances.map(({ polygons }) => runLengths(polygons, given.answer.image)));",
        answer=answer_of(instances),
    )
    for mask, run_lengths in zip(instances.masks, counts, strict=True):
        flat = mask.ravel(order="F")
        changes = np.flatnonzero(np.diff(flat)) + 1
        edges = np.concatenate([[0], changes, [flat.size]])
        wanted = np.diff(edges).tolist()
        assert run_lengths == ([0, *wanted] if flat[0] else wanted)


def test_run_lengths_of_nothing(run):
    script = 'import { runLengths } from "./outlines.js";\n---\nanswer(runLengths([], { width: 3, height: 2 }));'
    assert run(script) == [6]


def test_the_coco_file_is_one(run, tmp_path, capsys):
    instances = blobs(11)
    answer = answer_of(instances)
    content = run(
        'import { cocoFile } from "./downloads.js";\n---\n'
        "answer(cocoFile(given.answer, given.answer.instances, 'a.jpg', given.categories));",
        answer=answer,
        categories=[{"id": c.id, "name": c.name, "colour": "#000000"} for c in CATEGORIES],
    )
    (tmp_path / "a.json").write_text(json.dumps(content))
    coco = COCO(str(tmp_path / "a.json"))
    capsys.readouterr()
    assert coco.loadCats([3, 70, 9]) == [{"id": c.id, "name": c.name} for c in CATEGORIES]
    kinds = set()
    for instance, mask, annotation in zip(
        answer["instances"], instances.masks, coco.loadAnns(coco.getAnnIds()), strict=True
    ):
        kinds.add(type(annotation["segmentation"]))
        drawn = coco.annToMask(annotation).astype(bool)
        if isinstance(annotation["segmentation"], dict):
            assert (drawn == mask).all()
        else:  # pycocotools counts a pixel in at an outline's upper left: not that of whoever made the polygon
            assert (
                coco_mask.iou(
                    [coco_mask.encode(np.asfortranarray(drawn, np.uint8))],
                    [coco_mask.encode(np.asfortranarray(mask, np.uint8))],
                    [0],
                )[0, 0]
                == 1
            )
        left, top, right, bottom = instance["box"]
        assert annotation["bbox"] == [left, top, right - left, bottom - top]
        assert annotation["area"] == mask.sum()
        assert (annotation["category_id"], annotation["score"]) == (instance["category_id"], instance["score"])
    assert kinds == {list, dict}, "with holes and without: both are tried"


@pytest.mark.parametrize("seed", range(3))
def test_the_labelme_file_is_what_predict_writes(run, seed):
    instances = blobs(seed)
    ours = run(
        'import { labelmeFile } from "./downloads.js";\n---\n'
        "answer(labelmeFile(given.answer, given.answer.instances, 'image'));",
        answer=answer_of(instances, tolerance_px=None),
    )
    theirs = json.loads(json.dumps(instances.to_labelme()))
    assert ours == theirs
    assert any(shape["group_id"] for shape in ours["shapes"])
    assert len({tuple(point) for point in ours["shapes"][0]["points"]}) > 2


def test_letters_on_colours_are_those_of_overlays(run):
    palette = [*colours(range(300)), (0, 0, 0), (255, 255, 255), (118, 118, 118), (120, 120, 120)]
    inks = run(
        'import { inkOn } from "./drawing.js";\n---\nanswer(given.colours.map(inkOn));',
        colours=[f"#{bytes(colour).hex()}" for colour in palette],
    )
    assert inks == [f"#{bytes(text_colour(colour)).hex()}" for colour in palette]
    assert len(set(inks)) == 2


SETTINGS = 'import * as s from "./settings.js";\n---\n'


def info(value=None, per_class=None, model=None):
    categories = [{"id": c.id, "name": c.name, "colour": "#112233"} for c in CATEGORIES]
    thresholds = model or {"global": 0.5, "per_class": {"blue": 0.75}}
    return {"categories": categories, "thresholds": thresholds, "threshold": {"value": value, "per_class": per_class}}


@pytest.mark.parametrize("seed", range(3))
def test_at_first_that_is_shown_which_the_server_would_report(run, seed):
    instances = blobs(seed, count=30, height=20, width=20)
    limits = {"red fig": 0.3, "green/date": 0.6, "blue": float(instances.scores[4])}
    shown = run(
        SETTINGS + "answer(s.shownOf(given.answer.instances, s.firstSettings(given.info)).map(({ id }) => id));",
        answer=answer_of(instances),
        info=info(per_class=limits),
    )
    wanted = instances.above({name: np.float32(limit) for name, limit in limits.items()})
    assert 0 < len(shown) < len(instances)
    assert [instances.scores[number - 1] for number in shown] == wanted.scores.tolist()


def test_thresholds(run):
    found = run(
        SETTINGS
        + "const first = s.firstSettings(given.ofClasses), own = s.commonThreshold(first), asked = s.askedScore(first);"
        "s.setThreshold(first, 0.2); const common = s.commonThreshold(first), moved = s.isOwn(first);"
        "s.setThreshold(first, 0.9, 'blue'); const one = { ...first.thresholds };"
        "s.resetThresholds(first);"
        "const low = s.askedScore(s.firstSettings(given.low));"
        "answer({ own, asked, common, moved, one, isBack: s.isOwn(first), low,"
        "  whose: [given.ofClasses, given.low].map(info => s.firstSettings(info).whose) });",
        ofClasses=info(per_class={"red fig": 0.5, "green/date": 0.5, "blue": 0.75}),
        low=info(value=0.01),
    )
    assert found == {
        "own": None,
        "asked": 0.05,
        "common": 0.2,
        "moved": False,
        "one": {"red fig": 0.2, "green/date": 0.2, "blue": 0.9},
        "isBack": True,
        "low": 0.01,
        "whose": ["model", "server"],
    }


def test_zooming_keeps_the_point_under_the_pointer_and_the_picture_on_the_stage(run):
    """A random walk: never smaller than fitted, and no gap opens where the picture is larger than the stage."""
    found = run(
        'import * as v from "./viewport.js";\n---\n'
        "const stage = { width: 500, height: 300 }, image = { width: 1600, height: 1200 };"
        "let view = v.fitted(stage, image); const steps = [];"
        "for (const [kind, a, b, c] of given.walk) {"
        "  const before = v.toImage(view, b, c);"
        "  view = kind === 'zoom' ? v.zoomed(view, a, b, c, stage, image)"
        "    : v.panned(view, b - 250, c - 150, stage, image);"
        "  steps.push({ kind, factor: a, view, before, after: v.toImage(view, b, c) });"
        "} answer(steps);",
        walk=[
            [kind, float(factor), float(x), float(y)]
            for random in [np.random.default_rng(5)]
            for kind, factor, x, y in zip(
                random.choice(["zoom", "pan"], 200),
                np.exp(random.normal(0.1, 0.5, 200)),
                random.uniform(0, 500, 200),
                random.uniform(0, 300, 200),
                strict=True,
            )
        ],
    )
    still = 0
    for step in found:
        view = step["view"]
        assert 0.25 <= view["scale"] <= 32
        for at, room, length in ((view["x"], 500, 1600), (view["y"], 300, 1200)):
            length *= view["scale"]
            low, high = sorted([0, room - length])
            assert low - 1e-9 <= at <= high + 1e-9
            if view["scale"] == 0.25:  # fitted
                assert at == pytest.approx((room - length) / 2)
        if step["kind"] == "zoom" and step["after"] == pytest.approx(step["before"], abs=1e-6):
            still += 1
    assert still > 70, "but for where the edge of the picture would have come inside"
