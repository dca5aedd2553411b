"""Tiles against drawn truth: a model that reads shapes off their colours, so that what it must find is known."""

import json
import os
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from inference_data import CATEGORIES, colour_header, encode, make_instances
from PIL import Image
from torch import nn
from torchvision.models.detection.roi_heads import paste_masks_in_image

from finemask.cli import main
from finemask.errors import ConfigError, DataError
from finemask.inference import predictor as predictor_module
from finemask.inference import tiled as tiled_module
from finemask.inference.cutting import training_tile
from finemask.inference.predictor import Predictor
from finemask.inference.tile_merging import TileFind, merge_finds
from finemask.model.suppression import ClassAgnosticNMS
from finemask.model_header import TrainingSizes
from finemask.ops.box_ops import touching_pairs
from finemask.ops.rle import mask_to_rle
from finemask.types import Detections, Preprocessing

BLUE = (70, 84)  # alternating, so that a picture shrunk by half has only their mean


class ShapeModel(nn.Module):
    """Finds each rectangle that ``draw`` drew, by its colour: red r, green 255 - r. Its score is r / 255.

    Args:
        sees_shrunk: whether it also knows them in a picture that was shrunk.
    """

    def __init__(self, sees_shrunk: bool = True) -> None:
        super().__init__()
        self.sees_shrunk = sees_shrunk
        self.seen: list[tuple[int, ...]] = []

    def forward(self, images):
        return [self._detect(image) for image in images]

    def _detect(self, image) -> Detections:
        self.seen.append(tuple(image.shape))
        red, green, blue = image.int()
        known = blue >= BLUE[0] if self.sees_shrunk else (blue == BLUE[0]) | (blue == BLUE[1])
        shapes = torch.where((red + green == 255) & known, red, 0)
        boxes, scores = [], []
        for value in sorted(shapes.unique().tolist(), reverse=True):
            if value:
                rows, columns = torch.nonzero(shapes == value, as_tuple=True)
                corners = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
                boxes.append([float(corner) for corner in corners])
                scores.append(value / 255)
        return Detections(
            boxes=torch.tensor(boxes).reshape(-1, 4),
            labels=torch.ones(len(boxes), dtype=torch.int64),
            scores=torch.tensor(scores),
            mask_probs=torch.ones(len(boxes), 28, 28),
            image_size_hw=(image.shape[1], image.shape[2]),
        )


def draw(height: int, width: int, boxes) -> np.ndarray:
    """Rectangles (x0, y0, x1, y1) on black, each of a colour of its own."""
    image = np.zeros((height, width, 3), dtype=np.uint8)
    for value, (x0, y0, x1, y1) in zip(range(255, 0, -2), boxes, strict=False):
        image[y0:y1, x0:x1, :2] = value, 255 - value
        rows, columns = np.mgrid[y0:y1, x0:x1]
        image[y0:y1, x0:x1, 2] = np.where((rows + columns) % 2, *BLUE)
    return image


def tiled(image, boxes_are_whole=True, **options):
    found = Predictor(ShapeModel(boxes_are_whole), colour_header()).predict(
        image, **({"threshold": 0.0, "tile": 64, "overlap": 0.5} | options)
    )
    return [tuple(map(int, box)) for box in found.boxes.tolist()], found


@st.composite
def scenes(draw_from, longest: int):
    """Height, width and rectangles that do not touch one another, of sides up to ``longest``."""
    height, width = draw_from(st.integers(40, 230)), draw_from(st.integers(40, 230))
    taken, boxes = np.zeros((height, width), dtype=bool), []
    for _ in range(draw_from(st.integers(0, 14))):
        w, h = draw_from(st.integers(6, min(longest, width))), draw_from(st.integers(6, min(longest, height)))
        x0, y0 = draw_from(st.integers(0, width - w)), draw_from(st.integers(0, height - h))
        if not taken[max(y0 - 2, 0) : y0 + h + 2, max(x0 - 2, 0) : x0 + w + 2].any():
            taken[y0 : y0 + h, x0 : x0 + w] = True
            boxes.append((x0, y0, x0 + w, y0 + h))
    return height, width, boxes


@given(scenes(longest=28))  # what tiles share is 32 px, less a seam of 2 px at either end
@settings(max_examples=60, deadline=None)
def test_every_object_is_found_once_and_to_the_pixel(scene):
    height, width, boxes = scene
    image = draw(height, width, boxes)
    seen, found = tiled(image)
    assert seen == boxes  # best score first is the order in which they were drawn
    pasted = paste_masks_in_image(
        torch.ones(len(boxes), 1, 28, 28), torch.tensor(boxes).reshape(-1, 4), (height, width)
    )
    assert found.rles == [encode(mask.numpy()) for mask in pasted[:, 0] > 0.5]


@given(scenes(longest=200))
@settings(max_examples=60, deadline=None)
def test_what_no_tile_shows_whole_is_put_together_to_the_pixel(scene):
    height, width, boxes = scene
    seen, found = tiled(draw(height, width, boxes), False)  # the shrunk passes find nothing
    assert seen == boxes
    for (x0, y0, x1, y1), mask in zip(boxes, found.masks, strict=True):
        assert mask[y0 + 1 : y1 - 1, x0 + 1 : x1 - 1].all()
        around = mask[max(y0 - 1, 0) : y1 + 1, max(x0 - 1, 0) : x1 + 1]  # torchvision pastes a pixel more or less
        assert around.sum() == mask.sum()


@given(scenes(longest=200))
@settings(max_examples=60, deadline=None)
def test_large_objects_are_found_once_in_the_shrunk_passes(scene):
    height, width, boxes = scene
    seen, _ = tiled(draw(height, width, boxes))
    assert len(seen) == len(boxes)
    for one, (x0, y0, x1, y1) in zip(seen, boxes, strict=True):
        near = 0 if max(x1 - x0, y1 - y0) <= 28 else 4  # px of the picture that one of the most shrunk stands for
        assert np.abs(np.subtract(one, (x0, y0, x1, y1))).max() <= near


class SeesGhosts(ShapeModel):
    """Finds something at the right edge of every tile, whole and a little way in, where there is nothing."""

    def _detect(self, image) -> Detections:
        found, width = super()._detect(image), image.shape[2]
        ghost = torch.tensor([[width - 16.0, 30.0, width - 6.0, 40.0]])
        return found | {
            "boxes": torch.cat([found["boxes"], ghost]),
            "labels": torch.cat([found["labels"], torch.ones(1, dtype=torch.int64)]),
            "scores": torch.cat([found["scores"], torch.tensor([0.1])]),
            "mask_probs": torch.ones(len(found["labels"]) + 1, 28, 28),
        }


def test_what_is_near_an_edge_is_judged_by_the_tile_that_shows_it_better():
    seen = Predictor(SeesGhosts(), colour_header()).predict(
        draw(64, 256, [(10, 10, 30, 30), (100, 10, 120, 30)]), threshold=0.0, tile=64, overlap=0.5
    )
    at_the_right = [(10, 10, 30, 30), (100, 10, 120, 30), (240, 30, 250, 40)]
    assert [tuple(map(int, box)) for box in seen.boxes.tolist()] == at_the_right, "only the last tile is asked there"


def test_an_object_at_the_border_of_the_picture_is_no_part():
    boxes = [(0, 0, 20, 20), (130, 0, 150, 25), (0, 75, 28, 90), (140, 60, 150, 90)]
    assert tiled(draw(90, 150, boxes))[0] == boxes


def test_an_image_that_fits_into_a_tile_is_seen_whole_and_as_without_tiles():
    image = draw(60, 64, [(3, 4, 40, 50)])
    model = ShapeModel()
    predictor = Predictor(model, colour_header())
    whole, cut = predictor.predict(image), predictor.predict(image, tile=64)
    assert model.seen == [(3, 60, 64)] * 2
    assert (whole.boxes.tolist(), whole.rles, whole.scores.tolist()) == (
        cut.boxes.tolist(),
        cut.rles,
        cut.scores.tolist(),
    )


def test_nothing_depends_on_the_batch_and_thresholds_come_after_merging():
    image = draw(150, 230, [(x, y, x + 24, y + 20) for y in range(2, 120, 30) for x in range(2, 190, 40)])
    boxes, everything = tiled(image)
    assert len(boxes) == 20
    for size in (1, 3, 100):
        assert tiled(image, batch_size=size)[0] == boxes
    least = float(everything.scores[7])
    assert tiled(image, threshold=least)[0] == boxes[:8]


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp"])
def test_a_large_file_is_read_in_windows_and_gives_the_same(monkeypatch, tmp_path, name):
    boxes = [(5, 6, 30, 20), (60, 10, 75, 36), (100, 40, 125, 64), (10, 60, 150, 75)]
    image = draw(90, 201, boxes)
    Image.fromarray(image).save(tmp_path / name)
    in_memory, _ = tiled(image)
    monkeypatch.setattr(predictor_module, "LARGE_PX", 1000)
    seen, found = tiled(tmp_path / name)
    assert seen == in_memory
    assert found.image is None
    assert found.image_size_hw == (90, 201)
    upright = Image.fromarray(image).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # is to be turned clockwise to be shown
    upright.save(tmp_path / "turned.png", exif=exif)
    assert tiled(tmp_path / "turned.png")[0] == in_memory


def test_a_large_file_that_is_damaged_is_reported_and_the_rest_done(monkeypatch, tmp_path):
    image = draw(90, 200, [(5, 6, 30, 20)])
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 200, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:20_000])
    Image.fromarray(image).save(tmp_path / "b.png")
    monkeypatch.setattr(predictor_module, "LARGE_PX", 1000)
    errors: list[DataError] = []
    first, second = Predictor(ShapeModel(), colour_header()).predict(tmp_path, 0.0, on_error=errors.append, tile=64)
    assert (first, len(second), len(errors)) == (None, 1, 1)
    assert str(errors[0].where) == str(tmp_path / "a.png")
    with pytest.raises(DataError, match="cannot be read"):
        Predictor(ShapeModel(), colour_header()).predict(tmp_path / "a.png", tile=64)


SIZES = TrainingSizes((64, 64, 64), (1.0, 1.0, 1.0), (8.0, 12.0, 20.0), (8.0, 12.0, 20.0))
SIXTY_FOUR = Preprocessing((64,), 64, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))


class NearSighted(ShapeModel):
    """Sees only what comes in the size of its training images, as a model that resizes does."""

    preprocessing = SIXTY_FOUR

    def _detect(self, image) -> Detections:
        found = super()._detect(image)
        if max(image.shape[1:]) > 64:
            found = {k: v if k == "image_size_hw" else v[:0] for k, v in found.items()}
        return found


def test_auto_cuts_only_what_the_model_sees_too_small():
    header = colour_header(training_sizes=SIZES, preprocessing=SIXTY_FOUR)
    boxes = [(x, y, x + 12, y + 12) for y in range(3, 180, 60) for x in range(3, 240, 60)]
    model = NearSighted()
    predictor = Predictor(model, header)
    found = predictor.predict(draw(220, 260, boxes), threshold=0.0, tile="auto")  # 12 px are 3 px for the model
    assert [tuple(map(int, box)) for box in found.boxes.tolist()] == boxes
    assert model.seen[0] == (3, 220, 260)
    assert max(max(shape) for shape in model.seen[1:]) == 64
    model.seen.clear()
    predictor.predict(draw(100, 100, boxes[:1]), threshold=0.0, tile="auto")  # 7.7 px: seen well enough
    assert model.seen == [(3, 100, 100)]


def test_auto_takes_tiles_as_large_as_the_model_saw_its_images():
    usual = Preprocessing((320,), 640, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    sizes = TrainingSizes((256, 512, 1024), (0.3, 0.625, 1.25), (5, 10, 20), (5, 10, 20))
    assert training_tile(usual, sizes) == 512
    with pytest.raises(ConfigError, match=r"does not say.*tile=512"):
        training_tile(usual, None)


@pytest.mark.parametrize(
    "options", [{"tile": 10}, {"tile": True}, {"tile": "much"}, {"overlap": 1.0}, {"overlap": -0.1}]
)
def test_what_cannot_be_is_refused(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        tiled(draw(70, 70, []), **options)


def find(x0, y0, x1, y1, *, tile, label=1, score=0.5, level=0, is_cut=False, window=(0, 0, 100, 100)) -> TileFind:
    crop = mask_to_rle(np.ones((y1 - y0, x1 - x0)))
    return TileFind((x0, y0, x1, y1), label, score, crop, (x0, y0), tile, window, level, is_cut, 10.0)


def boxes_of(*finds: TileFind, **options):
    return [(one.box, one.score) for one in merge_finds(finds, **options)]


def test_two_finds_of_one_tile_are_two():
    one, other = find(0, 0, 20, 20, tile=1), find(1, 0, 21, 20, tile=1, score=0.4)
    assert len(boxes_of(one, other)) == 2
    assert len(boxes_of(one, find(1, 0, 21, 20, tile=2, score=0.4))) == 1


def test_classes_stay_apart_unless_the_model_says_otherwise():
    one, other = find(0, 0, 20, 20, tile=1), find(0, 0, 20, 20, tile=2, label=2, score=0.4)
    assert len(boxes_of(one, other)) == 2
    assert boxes_of(one, other, across_classes=True) == [((0, 0, 20, 20), 0.5)]


def test_across_classes_is_what_the_suppression_of_the_model_says():
    class TwoClasses(ShapeModel):
        """Calls an object by another class in every other tile."""

        def _detect(self, image) -> Detections:
            found = super()._detect(image)
            return {**found, "labels": found["labels"] + len(self.seen) % 2}

    model, image = TwoClasses(), draw(64, 90, [(32, 8, 56, 30)])  # whole in both tiles
    predictor = Predictor(model, colour_header())
    assert len(predictor.predict(image, 0.0, tile=64, overlap=0.5)) == 2
    model.roi_heads = nn.Module()
    model.roi_heads.suppression = ClassAgnosticNMS()
    assert len(predictor.predict(image, 0.0, tile=64, overlap=0.5)) == 1


def test_a_part_goes_where_a_whole_one_covers_it_and_stays_where_none_does():
    whole, part = find(40, 0, 80, 20, tile=1, score=0.4), find(60, 0, 72, 20, tile=2, score=0.9, is_cut=True)
    assert boxes_of(whole, part) == [((40, 0, 80, 20), 0.4)]
    alone = find(90, 50, 100, 60, tile=2, is_cut=True)
    assert len(boxes_of(whole, alone)) == 2


def test_full_resolution_goes_before_the_shrunk_passes_and_keeps_the_best_score():
    fine, coarse = find(0, 0, 20, 20, tile=1, score=0.3), find(0, 0, 22, 22, tile=9, level=1, score=0.9)
    assert boxes_of(coarse, fine) == [((0, 0, 20, 20), 0.9)]


def test_a_heap_that_a_shrunk_pass_takes_for_one_object_is_dropped():
    fine = [find(x, 0, x + 9, 20, tile=1) for x in (0, 10, 20)]
    heap = find(0, 0, 30, 20, tile=9, level=1, score=0.9)
    assert heap.box not in [box for box, _ in boxes_of(*fine, heap)]
    assert heap.box in [box for box, _ in boxes_of(fine[0], heap)]  # a third of it is no heap


@given(st.lists(st.tuples(*[st.integers(0, 30)] * 4), max_size=40))
@settings(max_examples=200, deadline=None)
def test_pairs_that_touch(corners):
    boxes = np.array([(x, y, x + w, y + h) for x, y, w, h in corners], dtype=np.int64).reshape(-1, 4)
    grid = np.zeros((len(boxes), 60, 60), dtype=bool)
    for pixels, (x0, y0, x1, y1) in zip(grid, boxes, strict=True):
        pixels[y0:y1, x0:x1] = True
    flat = grid.reshape(len(boxes), 3600).astype(np.int64)
    expected = {(i, j) for i, j in np.argwhere(flat @ flat.T > 0).tolist() if i < j}
    found = [tuple(sorted(pair)) for pair in touching_pairs(boxes).tolist()]
    assert len(found) == len(set(found))
    assert set(found) == expected


def test_memory_follows_the_masks_and_not_the_picture():
    side, step = 20_000, 200
    finds = [
        find(x, y, x + 20, y + 20, tile=x // step, window=(x, y, x + step, y + step))
        for y in range(0, side, step)
        for x in range(0, side, step)
    ]
    tracemalloc.start()
    assert len(merge_finds(finds)) == len(finds) == 10_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40e6  # a single mask of the picture's size is 400 MB


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.3, 0.5]))
@settings(max_examples=60, deadline=None)
def test_duplicates_are_those_of_the_full_table(seed, iou_thresh):
    rng = np.random.default_rng(seed)
    masks = np.zeros((12, 30, 40), dtype=bool)
    for mask in masks[1:]:  # the first has no pixels
        x, y, w, h = (int(number) for number in rng.integers((0, 0, 3, 3), (30, 20, 12, 12)))
        part = mask[y : y + h, x : x + w]
        part[:] = rng.random(part.shape) < 0.9
    instances = make_instances(masks, [1] * 12, rng.permutation(12) / 12)
    expected, kept = [], []
    for number in np.argsort(-instances.scores):
        flat = masks[number]
        ious = [(flat & masks[other]).sum() / max((flat | masks[other]).sum(), 1) for other in kept]
        (expected if any(iou > iou_thresh for iou in ious) else kept).append(int(number))
    assert instances.duplicates(iou_thresh).tolist() == sorted(expected)


def test_predict_writes_what_evaluate_scores(tiny_model_file, tmp_path, capsys):
    truth = {"images": [], "annotations": [], "categories": [category._asdict() for category in CATEGORIES]}
    (tmp_path / "images").mkdir()
    for number, size in enumerate([(150, 200), (60, 64)], start=1):
        Image.fromarray(draw(*size, [(5, 6, 30, 20), (30, 25, 60, 50)])).save(tmp_path / f"images/{number}.png")
        truth["images"].append({"id": 7 * number, "file_name": f"{number}.png", "height": size[0], "width": size[1]})
        square = {"bbox": [5, 6, 25, 14], "area": 350, "segmentation": [[5, 6, 30, 6, 30, 20, 5, 20]], "iscrowd": 0}
        truth["annotations"].append({"id": number, "image_id": 7 * number, "category_id": 70} | square)
    (tmp_path / "val.json").write_text(json.dumps(truth))
    model, cut = f"model={tiny_model_file}", ["tile=64", "overlap=0.3"]
    data = [f"data.root={tmp_path}", "data.val=val.json"]
    assert main(["evaluate", model, *data, f"output={tmp_path}/scored", *cut]) == 0
    where = [f"source={tmp_path}/images", f"annotations={tmp_path}/val.json", f"output={tmp_path}/found"]
    assert main(["predict", model, *where, "save=coco", "threshold=0", *cut]) == 0
    scored, found = (json.loads((tmp_path / of / "predictions.json").read_text()) for of in ("scored", "found"))

    def in_order(results):
        return sorted(results, key=lambda one: (one["image_id"], -one["score"], one["category_id"], one["bbox"]))

    assert in_order(scored) == in_order(found)
    assert {one["image_id"] for one in found} == {7, 14}
    assert "tile=64 overlap=0.3" in (tmp_path / "scored/report/index.html").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="other allocators have nothing to be told")
def test_what_is_free_between_small_things_that_stay_is_given_back():
    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    at_first = resident()
    large, small = [], []
    for _ in range(2000):  # 160 MB, each piece below what an allocator maps by itself
        large.append(np.ones(80_000, dtype=np.uint8))
        small.append(bytes(600))  # more than Python keeps in pools of its own
    del large
    tiled_module.give_back_memory()
    assert len(small) == 2000
    assert resident() - at_first < 40e6


def test_memory_is_given_back_now_and_then(monkeypatch):
    calls, model = [], ShapeModel()
    monkeypatch.setattr(tiled_module, "give_back_memory", lambda: calls.append(len(model.seen)))
    assert len(list(Predictor(model, colour_header()).answers(draw(700, 700, []), 0.0, 5, 64, 0.2))) == 1
    assert len(calls) == len(model.seen) // 64 + 1 > 3, "and once at the end"
    assert calls[0] == 65, "behind the batch in which the 64th tile is"


@pytest.mark.parametrize(("size", "batch_size"), [((64, 64), 3), ((150, 230), 4), ((65, 1001), 1), ((700, 300), 5)])
def test_how_far_a_picture_is_done_is_told_to_the_last_tile(size, batch_size):
    told, model = [], ShapeModel()
    answers = Predictor(model, colour_header()).answers(
        draw(*size, []), 0.0, batch_size, 64, 0.5, lambda done, total: told.append((done, total))
    )
    assert len(list(answers)) == 1
    if max(size) > 64:
        assert told[-1] == (len(model.seen), len(model.seen))
        assert [done for done, _ in told] == [
            min(n + batch_size, len(model.seen)) for n in range(0, len(model.seen), batch_size)
        ]
    else:
        assert told == []
