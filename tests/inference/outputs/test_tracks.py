import csv

import cv2
import numpy as np
from inference_data import make_instances

from finemask.inference.content.video_frames import Frame, FrameChoice
from finemask.inference.outputs.tracks import Tracker, TrackTable
from finemask.inference.sources import Opening


def frame(number, *boxes, labels=None, video="a.mp4"):
    """Filled boxes, x0 y0 x1 y1, on 60 × 200 px."""
    masks = np.zeros((len(boxes), 60, 200), bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[y0:y1, x0:x1] = True
    found = make_instances(masks, labels or [1] * len(boxes), name=f"a/a_{number:06d}")
    object.__setattr__(found, "frame", Frame(video, number, (number - 1) / 10, 10.0))
    return found


def ids(tracker, *frames):
    return [tracker.follow(one).track_ids.tolist() for one in frames]


def test_the_larger_overlap_goes_first_and_what_overlaps_nothing_is_new():
    """By hand: IoU with the first box, of 20 px: 16 of 24 px in common at a shift of 4, 12 of 28 at one of 8."""
    first = frame(1, (0, 0, 20, 20))
    second = frame(2, (8, 0, 28, 20), (4, 0, 24, 20), (100, 0, 120, 20))
    assert ids(Tracker(), first, second) == [[1], [2, 1, 3]]
    assert ids(Tracker(iou_thresh=0.7), first, second) == [[1], [2, 3, 4]]  # 16 / 24 is too little


def test_an_id_stays_over_frames_out_of_sight_while_it_moves():
    """A box of 20 px at 10 px a frame is hidden for four frames: where it was, nothing is; where it would be, it is."""
    moving = [frame(n, (10 * n, 0, 10 * n + 20, 20), (0, 40, 30, 60)) for n in range(1, 4)]
    hidden = [frame(n, (0, 40, 30, 60)) for n in range(4, 8)]
    back = frame(8, (0, 40, 30, 60), (80, 0, 100, 20))
    assert ids(Tracker(), *moving, *hidden, back) == [[1, 2]] * 3 + [[2]] * 4 + [[2, 1]]
    assert ids(Tracker(max_gap=3), *moving, *hidden, back)[-1] == [2, 3]  # out of mind


def test_classes_and_videos_do_not_mix():
    boxes = (0, 0, 20, 20)
    assert ids(Tracker(), frame(1, boxes), frame(2, boxes, labels=[2]), frame(3, boxes)) == [[1], [2], [1]]
    assert ids(Tracker(), frame(1, boxes), frame(1, boxes, boxes, video="b.mp4")) == [[1], [1, 2]]
    alone = make_instances(np.ones((1, 4, 4), bool), [1])
    assert Tracker().follow(alone).track_ids is None
    assert ids(Tracker(), frame(1), frame(2, boxes), frame(3)) == [[], [1], []]


def test_ids_go_with_the_instances_that_are_chosen_and_colour_them():
    tracker = Tracker()
    tracker.follow(frame(1, (0, 0, 20, 20), (100, 0, 120, 20)))
    second = tracker.follow(frame(2, (100, 0, 120, 20), (0, 0, 20, 20)))
    assert second.track_ids.tolist() == [2, 1]
    assert second[1:].track_ids.tolist() == [1]
    black = np.zeros((60, 200, 3), np.uint8)
    whole, alone = (np.asarray(one.draw(black)) for one in (second, second[1:]))
    assert np.array_equal(whole[30:40, 30:40], alone[30:40, 30:40])  # the same colour, though it is drawn as the first
    assert whole[35, 35].any()


def test_shapes_are_followed_through_a_video_file(predictor, tmp_path):
    """A red block crosses the picture and is out of sight for four frames; a green one stays; every second is taken."""
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 20, (320, 96))
    for number in range(24):
        picture = np.zeros((96, 320, 3), np.uint8)
        picture[64:96, 256:304, 1] = 255
        if not 10 <= number < 18:
            picture[0:48, 8 * number : 8 * number + 48, 2] = 255  # red, in OpenCV's order
        writer.write(picture)
    writer.release()
    predictor.opening = Opening(frames=FrameChoice(stride=2))
    tracker = Tracker()
    followed = [tracker.follow(one) for one in predictor.stream(path, threshold=0.1)]
    assert [one.frame.number for one in followed] == list(range(1, 25, 2))
    seen = [dict(zip(one.class_names, one.track_ids.tolist(), strict=True)) for one in followed]
    both, alone = {"red fig": 1, "green/date": 2}, {"green/date": 2}
    assert seen == [both] * 5 + [alone] * 4 + [both] * 3


def test_the_table_names_frame_time_track_and_class(tmp_path):
    tracker, table = Tracker(), TrackTable(tmp_path)
    frames = (frame(1, (0, 0, 20, 20)), frame(4, (5, 0, 25, 20)), make_instances(np.ones((1, 4, 4), bool), [1]))
    parts = [(table.part(tracker.follow(one)), 1) for one in frames]
    (path,) = table.write(parts, [])
    with path.open(newline="", encoding="utf-8") as file:
        first, second = csv.DictReader(file)
    assert (first["video"], first["frame"], first["time_s"], first["track"], first["class"]) == (
        "a.mp4",
        "1",
        "0.0",
        "1",
        "red fig",
    )
    assert (second["frame"], second["time_s"], second["track"], second["x_min_px"], second["area_px"]) == (
        "4",
        "0.3",
        "1",
        "5.0",
        "400",
    )
