"""Objects as they are measured, against masks that are known and against slow, dense counting."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stats_data import rectangle, write_coco

from finemask.coco.index import CocoIndex
from finemask.data.dataset import InstanceDataset
from finemask.data.shapes import draw_shapes
from finemask.datatools.stats.object_stats import GRID, measure_objects, overlapping_pairs

HW = (60, 80)


def test_every_number_of_a_scene_that_was_laid_out_by_hand(index_of):
    left, beside = rectangle(HW, 0, 10, 10, 30), rectangle(HW, 10, 10, 20, 20)  # touch along an edge
    apart = rectangle(HW, 40, 40, 44, 44)
    two_pieces = rectangle(HW, 50, 0, 54, 4) | rectangle(HW, 56, 0, 60, 4)
    nothing = np.zeros(HW, dtype=np.bool_)
    index = index_of(
        [HW, HW],
        [(0, "a", left), (0, "b", beside), (0, "a", apart), (0, "a", nothing), (1, "b", two_pieces)],
        crowds=[(1, "a", rectangle(HW, 0, 0, 80, 60))],
    )
    objects = measure_objects(index)
    assert objects.image.tolist() == [0, 0, 0, 1]
    assert objects.labels.tolist() == [1, 2, 1, 2]
    assert objects.boxes.tolist() == [[0, 10, 10, 30], [10, 10, 20, 20], [40, 40, 44, 44], [50, 0, 60, 4]]
    assert objects.areas.tolist() == [200, 100, 16, 32]
    assert objects.pieces.tolist() == [1, 1, 1, 2]
    assert objects.touches.tolist() == [True, True, False, False]
    assert objects.at_edge.tolist() == [True, False, False, True]
    assert objects.crowding.tolist() == [0, 0, 0, 0]
    assert (objects.num_crowds, objects.num_empty) == (1, 1)


def test_crowding_is_the_share_of_the_box_that_others_take(index_of):
    whole = rectangle(HW, 10, 10, 30, 30)
    inside = rectangle(HW, 20, 10, 30, 20)  # a quarter of the first one's box, all of its own
    objects = measure_objects(index_of([HW], [(0, "a", whole), (0, "a", inside)]))
    assert objects.crowding.tolist() == [0.25, 1.0]
    assert objects.touches.all()


def test_corners_that_meet_do_not_touch_but_are_one_piece(index_of):
    one, other = rectangle(HW, 10, 10, 14, 14), rectangle(HW, 14, 14, 18, 18)
    apart = measure_objects(index_of([HW], [(0, "a", one), (0, "a", other)]))
    assert apart.touches.tolist() == [False, False]
    together = measure_objects(index_of([HW], [(0, "a", one | other)]))
    assert together.pieces.tolist() == [1]


def test_the_map_of_places_is_the_mean_coverage_of_images_with_objects(index_of):
    left_half, upper_half = rectangle(HW, 0, 0, 40, 60), rectangle(HW, 0, 0, 80, 30)
    objects = measure_objects(index_of([HW, HW, HW], [(0, "a", left_half), (1, "a", upper_half)]))
    half = GRID // 2
    quarters = [objects.coverage[rows, columns] for rows in (np.s_[:half], np.s_[half:])
                for columns in (np.s_[:half], np.s_[half:])]  # fmt: skip
    assert [pytest.approx(np.full((half, half), share)) for share in (1.0, 0.5, 0.5, 0.0)] == quarters


def test_a_file_without_objects(index_of):
    index = index_of([HW], [], crowds=[(0, "a", rectangle(HW, 0, 0, 4, 4))])
    objects = measure_objects(index)
    assert len(objects) == 0
    assert objects.boxes.shape == (0, 4)
    assert not objects.coverage.any()
    assert overlapping_pairs(objects, 0.5) == 0


def test_boxes_and_areas_are_those_that_training_gets(tmp_path):
    root = draw_shapes(tmp_path, images=12, size=96, seed=5)
    index = CocoIndex.read(root / "annotations" / "train.json", root / "images")
    objects = measure_objects(index)
    targets = [InstanceDataset(index, min_visible_px=1)[i][1] for i in range(len(index))]
    assert objects.boxes.tolist() == [box for target in targets for box in target["boxes"].tolist()]
    assert objects.labels.tolist() == [label for target in targets for label in target["labels"].tolist()]


def test_it_tells_how_far_it_is(index_of):
    calls = []
    measure_objects(index_of([HW, HW, HW], [(0, "a", rectangle(HW, 0, 0, 4, 4))]), lambda: calls.append(1))
    assert len(calls) == 3


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 27), st.integers(0, 17), st.integers(1, 14), st.integers(1, 12)),
        min_size=1,
        max_size=7,
    )
)
def test_neighbours_against_dense_counting(tmp_path_factory, corners):
    hw = (20, 30)
    masks = [rectangle(hw, x, y, x + w, y + h) for x, y, w, h in corners]
    root = tmp_path_factory.mktemp("dense")
    index = CocoIndex.read(write_coco(root, [hw], [(0, "a", mask) for mask in masks]), root / "images")
    objects = measure_objects(index)
    for k, mask in enumerate(masks):
        others = np.any([other for j, other in enumerate(masks) if j != k] or [np.zeros(hw, np.bool_)], axis=0)
        grown = mask.copy()
        for axis, step in ((0, 1), (0, -1), (1, 1), (1, -1)):
            moved = np.roll(mask, step, axis)
            edge = [slice(None)] * 2
            edge[axis] = 0 if step > 0 else -1
            moved[tuple(edge)] = False
            grown |= moved
        y, x = np.nonzero(mask)
        box = others[y.min() : y.max() + 1, x.min() : x.max() + 1]
        assert objects.crowding[k] == pytest.approx(box.mean())
        assert objects.touches[k] == bool((grown & others).any())


def test_pairs_that_suppression_would_break_up(index_of):
    first, shifted = rectangle(HW, 0, 0, 20, 20), rectangle(HW, 5, 0, 25, 20)  # IoU 15 / 25
    far = rectangle(HW, 60, 40, 70, 50)
    index = index_of([HW, HW], [(0, "a", first), (0, "a", shifted), (0, "b", first), (0, "a", far), (1, "a", first)])
    objects = measure_objects(index)
    assert [overlapping_pairs(objects, threshold) for threshold in (0.5, 0.59, 0.61)] == [2, 2, 0]
