"""Following things through a video: instances of successive frames that overlap are the same thing; a table of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from finemask.inference.instances import Instances
from finemask.inference.outputs.instance_table import csv_text
from finemask.ops.box_ops import pairwise_iou
from finemask.ops.files.atomic_files import atomic_path
from finemask.ops.rle import rle_area
from finemask.types import Category

TRACK_COLUMNS = (
    "video",
    "frame",  # from 1 on
    "time_s",
    "track",  # from 1 on, in each video
    "class",
    "score",
    "x_min_px",
    "y_min_px",
    "x_max_px",
    "y_max_px",
    "area_px",  # pixels of the mask
)


@dataclass(slots=True)
class _Track:
    """A thing as it was last seen."""

    number: int
    label: int
    box: NDArray[np.float64]  # xyxy
    shift: NDArray[np.float64]  # of its middle, px a frame
    frame: int

    def expected_box(self, frame: int) -> NDArray[np.float64]:
        """Where it is if it kept its pace."""
        return self.box + np.tile(self.shift, 2) * (frame - self.frame)


class Tracker:
    """Follows things by the overlap of boxes, greedily, the largest first; every video is a story of its own.

    A thing is looked for where it would be had it kept its pace, and only among instances of its class. One that is not
    seen is kept in mind for some frames, so that it comes back under its number from behind something else.

    Args:
        iou_thresh: least IoU of the expected box with a detection's.
        max_gap: frames, of those that were taken, that a thing may be out of sight.
    """

    def __init__(self, iou_thresh: float = 0.3, max_gap: int = 15) -> None:
        self._iou_thresh, self._max_gap = iou_thresh, max_gap
        self._video: str | None = None
        self._tracks: list[_Track] = []
        self._last, self._frame = 0, 0

    def follow(self, instances: Instances) -> Instances:
        """The instances of the next frame, with ``track_ids``; those of an image that is no frame as they are."""
        if instances.frame is None:
            return instances
        if instances.frame.video != self._video:
            self._video, self._tracks, self._last, self._frame = instances.frame.video, [], 0, 0
        self._frame += 1
        self._tracks = [track for track in self._tracks if self._frame - track.frame - 1 <= self._max_gap]
        boxes = instances.boxes.astype(np.float64)
        ids = np.zeros(len(instances), dtype=np.int64)
        for track, position in self._pairs(boxes, instances.labels):
            ids[position] = track.number
            moved = _middle(boxes[position]) - _middle(track.box)
            track.shift = moved / (self._frame - track.frame)
            track.box, track.frame = boxes[position], self._frame
        for position in np.flatnonzero(ids == 0).tolist():  # best score first
            self._last += 1
            ids[position] = self._last
            label = int(instances.labels[position])
            self._tracks.append(_Track(self._last, label, boxes[position], np.zeros(2), self._frame))
        return replace(instances, track_ids=ids)

    def _pairs(self, boxes: NDArray[np.float64], labels: NDArray[np.int64]) -> list[tuple[_Track, int]]:
        """Tracks and the positions of their instances, each once at most."""
        if not self._tracks or not len(boxes):
            return []
        expected = np.array([track.expected_box(self._frame) for track in self._tracks])
        ious = pairwise_iou(torch.from_numpy(expected), torch.from_numpy(boxes)).numpy()
        ious[np.array([track.label for track in self._tracks])[:, None] != labels[None, :]] = 0
        pairs = []
        taken_tracks, taken = np.zeros(len(expected), bool), np.zeros(len(boxes), bool)
        rows, columns = np.nonzero(ious >= self._iou_thresh)
        for at in np.argsort(-ious[rows, columns], kind="stable"):
            row, column = int(rows[at]), int(columns[at])
            if not (taken_tracks[row] or taken[column]):
                taken_tracks[row] = taken[column] = True
                pairs.append((self._tracks[row], column))
        return pairs


def _middle(box: NDArray[np.float64]) -> NDArray[np.float64]:
    return (box[:2] + box[2:]) / 2


class TrackTable:
    """``tracks.csv``: one line a thing and frame of a video."""

    def __init__(self, output: Path) -> None:
        self._file = output / "tracks.csv"

    @property
    def gathered(self) -> list[Path]:
        """The table."""
        return [self._file]

    def part(self, instances: Instances) -> list[list[Any]]:
        """The rows of one frame; an image that is none has no rows."""
        if instances.frame is None or instances.track_ids is None:
            return []
        video, number, time_s, _ = instances.frame
        rows: list[list[Any]] = []
        found = zip(instances.class_names, instances.scores, instances.boxes, instances.rles, strict=True)
        for track, (name, score, box, rle) in zip(instances.track_ids, found, strict=True):
            corners = [round(float(side), 2) for side in box]
            of_thing = [int(track), name, round(float(score), 6), *corners, rle_area(rle)]
            rows.append([video, number, round(time_s, 4), *of_thing])
        return rows

    def write(self, parts: Iterable[tuple[Any, int | None]], categories: Sequence[Category]) -> list[Path]:
        """Writes the table."""
        with atomic_path(self._file) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            file.write(csv_text(TRACK_COLUMNS, ()))
            for rows, _ in parts:
                file.write(csv_text(TRACK_COLUMNS, rows).partition("\n")[2])
        return [self._file]
