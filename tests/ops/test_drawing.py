import colorsys
import json
import re
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFont
from pycocotools import mask as coco_mask

from finemask.ops.colours import ONE_OF_TWO, VERDICTS, colours, relative_luminance, text_colour, verdict_css
from finemask.ops.drawing import draw_instances, draw_labels, font_size, outline, upscale_factor, with_legend


def encode(mask):
    rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode()}


def rectangle(height, width, x0, y0, x1, y1):
    mask = np.zeros((height, width), dtype=bool)
    mask[y0:y1, x0:x1] = True
    return mask


def overlap(a, b):
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def test_colours_are_stable_distinct_and_carry_readable_text():
    palette = colours(range(200))
    assert palette == colours(range(200))
    assert colours([5, 7, 5])[0] == colours([5])[0]
    assert len(set(palette)) == 200
    first = np.array(palette[:8], dtype=int)
    apart = np.abs(first[:, None] - first[None]).sum(-1) + 1000 * np.eye(8, dtype=int)
    assert apart.min() > 60
    hues = sorted(colorsys.rgb_to_hsv(*(np.array(c) / 255))[0] for c in palette[:12])
    assert max(np.diff([*hues, hues[0] + 1])) < 0.25  # all round the circle
    for plate in palette:
        text, ground = relative_luminance(text_colour(plate)), relative_luminance(plate)
        assert (max(text, ground) + 0.05) / (min(text, ground) + 0.05) >= 4.5  # WCAG AA
    assert relative_luminance((255, 255, 255)) == pytest.approx(1)
    assert (text_colour((0, 0, 60)), text_colour((250, 250, 90))) == ((255, 255, 255), (16, 16, 16))


SEEN_AS = {  # linear RGB as people see it: Machado, Oliveira & Fernandes 2009, severity 1
    "all cones": np.eye(3),
    "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "no blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def oklab(linear):
    """Björn Ottosson's perceptual space, in which a distance of 0.02 is just seen."""
    cones = [[0.412221, 0.536333, 0.051446], [0.211903, 0.680700, 0.107397], [0.088302, 0.281719, 0.629979]]
    to_lab = [[0.210454, 0.793618, -0.004072], [1.977998, -2.428592, 0.450594], [0.025904, 0.782772, -0.808676]]
    return np.array(to_lab) @ np.cbrt(np.array(cones) @ linear)


@pytest.mark.parametrize("kind", SEEN_AS)
def test_verdicts_are_told_apart_with_any_colour_vision(kind):
    def seen(colour):
        value = np.array(colour) / 255
        linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
        return oklab(np.clip(np.array(SEEN_AS[kind]) @ linear, 0, 1))

    for (a, one), (b, other) in combinations(VERDICTS.items(), 2):
        assert np.linalg.norm(seen(one) - seen(other)) > 0.12, (a, b)
    for colour in (VERDICTS["found"], VERDICTS["missed"]):  # beside which it stands
        assert np.linalg.norm(seen(ONE_OF_TWO) - seen(colour)) > 0.1


def test_verdicts_stand_out_in_light_and_dark_and_a_page_has_the_same():
    css = verdict_css()
    for name, colour in (VERDICTS | {"one-of-two": ONE_OF_TWO}).items():
        assert 1.05 / (relative_luminance(colour) + 0.05) >= 3  # WCAG for what is no text, on white
        assert (relative_luminance(colour) + 0.05) / (relative_luminance((23, 27, 35)) + 0.05) >= 3  # a dark card
        assert f"--{name}: #{colour[0]:02x}{colour[1]:02x}{colour[2]:02x};" in css


@pytest.mark.parametrize(
    ("size", "factor"),
    [((256, 256), 3), ((399, 100), 1), ((400, 30), 1), ((1, 1), 8), ((64, 80), 8), ((3000, 20), 1)],
)
def test_only_small_pictures_are_enlarged(size, factor):
    assert upscale_factor(*size) == factor
    picture = draw_instances(np.zeros((*size, 3), np.uint8), rles=[], boxes_xyxy=np.zeros((0, 4)), captions=[])
    assert picture.size == (size[1] * factor, size[0] * factor)


def test_outline_of_a_square_and_of_a_hole():
    mask = rectangle(9, 9, 1, 1, 8, 8)
    expected = mask & ~rectangle(9, 9, 2, 2, 7, 7)
    assert np.array_equal(outline(mask, 1), expected)
    assert np.array_equal(outline(np.ones((5, 5), bool), 1), ~rectangle(5, 5, 1, 1, 4, 4))
    mask[4, 4] = False
    assert outline(mask, 1)[3, 4]
    assert not outline(mask, 1)[3, 3]
    assert np.array_equal(outline(mask, 50), mask)


def test_pixels_outside_the_boxes_are_untouched_and_inside_they_are_blended():
    image = np.random.default_rng(0).integers(0, 256, (420, 600, 3)).astype(np.uint8)
    before = image.copy()
    mask = rectangle(420, 600, 100, 50, 300, 200)
    drawn = np.asarray(
        draw_instances(
            image,
            rles=[encode(mask)],
            boxes_xyxy=np.array([[100, 50, 300, 200.0]]),
            captions=[""],
            palette=colours([4]),
        )
    )
    assert np.array_equal(image, before)
    assert np.array_equal(drawn[~mask], image[~mask])
    colour = np.array(colours([4])[0])
    inner = rectangle(420, 600, 110, 60, 290, 190)
    blended = 0.58 * image[inner] + 0.42 * colour
    assert np.abs(drawn[inner] - blended).max() <= 1
    assert np.abs(drawn[50, 100:300].astype(int) - colour).mean() < 0.26 * 128


def test_equal_keys_draw_equal_colours_on_black():
    image = np.zeros((400, 400, 3), np.uint8)
    boxes = np.array([[10, 10, 60, 60], [110, 10, 160, 60], [210, 10, 260, 60.0]])
    rles = [encode(rectangle(400, 400, *map(int, box))) for box in boxes]
    drawn = np.asarray(
        draw_instances(image, rles=rles, boxes_xyxy=boxes, captions=[""] * 3, palette=colours([1, 2, 1]))
    )
    assert np.array_equal(drawn[10:60, 10:60], drawn[10:60, 210:260])
    assert not np.array_equal(drawn[10:60, 10:60], drawn[10:60, 110:160])


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 500),
    st.integers(1, 500),
    st.lists(st.tuples(*[st.floats(-50, 550)] * 4), max_size=12),
    st.sampled_from(["fig 0.97", "a very long category name that no plate can hold 0.50", "x", "", "日本 \n 0.1"]),
)
def test_labels_stay_inside_and_off_one_another(height, width, corners, caption):
    boxes = np.array([[min(a, c), min(b, d), max(a, c), max(b, d)] for a, b, c, d in corners], dtype=float).reshape(
        -1, 4
    )
    limits = np.array([width, height, width, height])
    low = np.clip(boxes, 0, limits).astype(int)[:, :2].clip(max=limits[:2] - 1)
    high = np.maximum(np.clip(boxes, 0, limits).astype(int)[:, 2:], low + 1)
    plates = draw_labels(
        Image.new("RGB", (width, height)),
        np.concatenate([low, high], 1),
        [caption] * len(boxes),
        colours(range(12))[: len(boxes)],
    )
    drawn = [plate for plate in plates if plate is not None]
    for number, plate in enumerate(drawn):
        assert 0 <= plate[0] < plate[2] <= width
        assert 0 <= plate[1] < plate[3] <= height
        assert not any(overlap(plate, other) for other in drawn[:number])


def test_wild_boxes_and_empty_masks_do_not_crash():
    image = np.zeros((30, 20, 3), np.uint8)
    boxes = np.array([[-9, -9, 99, 99], [5, 5, 5, 5], [20, 30, 20, 30], [np.nan] * 4], dtype=float)
    picture = draw_instances(image, rles=[encode(np.zeros((30, 20)))] * 4, boxes_xyxy=boxes, captions=["a"] * 4)
    assert picture.size == (160, 240)


def test_a_label_is_drawn_above_its_box_and_shows_text():
    picture = Image.new("RGB", (640, 480))
    plates = draw_labels(picture, np.array([[100, 100, 300, 300]]), ["fig 0.97"], [(250, 200, 40)])
    x0, _, x1, y1 = plates[0]
    assert (x0, y1) == (100, 100)
    assert x1 - x0 > ImageFont.load_default(font_size(480, 640)).getlength("fig 0.97")
    pixels = np.asarray(picture.crop(plates[0]))
    assert (pixels == (250, 200, 40)).all(-1).any()
    assert (pixels.sum(-1) < 100).any()
    outside = np.asarray(picture).copy()
    outside[plates[0][1] : y1, x0:x1] = 0
    assert not outside.any()  # the text keeps to its plate


def test_dense_pictures_lose_scores_first_then_all_labels():
    def drawn(n, caption):
        side = 480 // int(n**0.5)
        boxes = np.array([[x * side, y * side, x * side + side - 2, y * side + side - 2]
                          for y in range(480 // side) for x in range(480 // side)][:n])  # fmt: skip
        plates = draw_labels(Image.new("RGB", (480, 480)), boxes, [caption] * n, colours(range(n)))
        widths = [p[2] - p[0] for p in plates if p]
        return len(widths), max(widths, default=0)

    full = drawn(4, "nucleus 0.97")
    shortened = drawn(64, "nucleus 0.97")
    assert full[0] == 4
    assert shortened[0] > 40
    assert shortened[1] < full[1] - 15
    assert drawn(400, "nucleus 0.97")[0] == 0


def test_arguments_that_disagree_are_refused():
    image = np.zeros((10, 10, 3), np.uint8)
    with pytest.raises(ValueError, match="1 masks, 1 boxes, 2 captions"):
        draw_instances(image, rles=[encode(np.ones((10, 10)))], boxes_xyxy=np.zeros((1, 4)), captions=["", ""])
    with pytest.raises(ValueError, match=re.escape("[9, 10]")):
        draw_instances(image, rles=[encode(np.ones((9, 10)))], boxes_xyxy=np.zeros((1, 4)), captions=[""])


def test_the_most_crowded_real_picture_keeps_its_pixels_visible(shared_dir):
    folder = shared_dir / "datasets" / "nuclei"
    content = json.loads((folder / "annotations" / "val.json").read_text())
    by_image: dict[int, list] = {}
    for annotation in content["annotations"]:
        by_image.setdefault(annotation["image_id"], []).append(annotation)
    crowded = max(content["images"], key=lambda image: len(by_image.get(image["id"], [])))
    height, width = crowded["height"], crowded["width"]
    found = by_image[crowded["id"]]
    rles = []
    for annotation in found:
        merged = coco_mask.merge(coco_mask.frPyObjects(annotation["segmentation"], height, width))
        rles.append({"size": merged["size"], "counts": merged["counts"].decode()})
    boxes = np.array([annotation["bbox"] for annotation in found])
    boxes[:, 2:] += boxes[:, :2]
    image = np.asarray(Image.open(folder / "images" / crowded["file_name"]).convert("RGB"))
    drawn = np.asarray(draw_instances(image, rles=rles, boxes_xyxy=boxes, captions=["nucleus 0.99"] * len(found)))
    covered = np.zeros((height, width), bool)
    for x0, y0, x1, y1 in np.concatenate([np.floor(boxes[:, :2]), np.ceil(boxes[:, 2:])], 1).astype(int):
        covered[y0:y1, x0:x1] = True
    for rle in rles:
        covered |= coco_mask.decode({**rle, "counts": rle["counts"].encode()}).astype(bool)
    if upscale_factor(height, width) == 1:
        assert np.array_equal(drawn[~covered], image[~covered])  # no label at all: nothing beside the boxes


def test_a_label_goes_where_it_hides_nothing_of_others_and_none_goes_where_it_would():
    """A large box whose upper edge touches a small one: the label goes elsewhere; hemmed in on all sides, nowhere."""
    own, above = [100, 100, 200, 200], [100, 60, 200, 100]
    boxes = np.array([own, above])
    first, _ = draw_labels(Image.new("RGB", (640, 480)), boxes, ["fig 0.97", ""], colours(range(2)))
    assert first is not None
    assert not overlap(first, above)
    alone = draw_labels(Image.new("RGB", (640, 480)), boxes[:1], ["fig 0.97"], colours(range(1)))
    assert overlap(alone[0], above)  # which is where it goes without the other
    small = np.array([[x, y, x + 24, y + 24] for y in range(0, 480, 24) for x in range(0, 480, 24)])
    captions = ["fig 0.97" if number == 200 else "" for number in range(len(small))]
    assert draw_labels(Image.new("RGB", (480, 480)), small, captions, colours(range(len(small))))[200] is None


def test_a_label_on_what_lies_behind_everything_hides_little_of_it():
    """A wall with a window in it: the label of the window may stand on the wall."""
    wall, window = [0, 0, 640, 480], [300, 200, 380, 280]
    plates = draw_labels(Image.new("RGB", (640, 480)), np.array([wall, window]), ["wall", "window"], colours(range(2)))
    assert None not in plates
    assert not overlap(plates[0], window)


def test_a_legend_is_a_strip_below_that_names_the_colours():
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 400, 3)).astype(np.uint8))
    one = with_legend(picture, [((250, 0, 0), "red fig"), ((0, 0, 250), "blue")])
    assert one.width == 400
    assert np.array_equal(np.asarray(one)[:300], np.asarray(picture))
    strip = np.asarray(one)[300:]
    for colour in ((250, 0, 0), (0, 0, 250), (16, 16, 16), (255, 255, 255)):
        assert (strip == colour).all(-1).any()
    many = with_legend(picture, [((0, 200, 0), f"a long name of class number {number}") for number in range(9)])
    assert many.height - 300 > 3 * (one.height - 300)  # as many rows as it needs
    assert with_legend(picture, []) is picture
    assert with_legend(picture, [((0, 200, 0), "x" * 500)]).width == 400
