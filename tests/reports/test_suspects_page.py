"""Suspects are shown in the colours of the verdicts, and small ones without a caption."""

import json

import numpy as np
import pytest

from finemask.coco.index import CocoIndex
from finemask.datatools.suspects.compared_images import compare_images
from finemask.datatools.suspects.label_faults import RULES, find_suspects
from finemask.ops.colours import VERDICTS
from finemask.ops.rle import rle_box_xywh
from finemask.pages import instance_pictures
from finemask.reports.suspects_page import draw_suspects

EXPECTED = {  # of the labels concerned, of the others, and of what the model sees
    "missing-label": ([], "found", "missed"),
    "wrong-class": (["wrong-class"], None, "found"),
    "loose-mask": (["false"], None, "found"),
    "duplicate-label": (["false", "found"], None, "found"),
}


@pytest.fixture(scope="module")
def drawn(faulty):
    """What was drawn for each suspect: palette and captions, first of the labels, then of the detection."""
    index = CocoIndex.read(faulty.faulty, faulty.images)
    suspects = find_suspects(list(compare_images(index, json.loads(faulty.results.read_text()))), 0.1)
    calls, real = [], instance_pictures.draw_instances

    def draw(image, **given):
        calls.append(given)
        return real(image, **given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(instance_pictures, "draw_instances", draw)
        for suspect in suspects:
            draw_suspects(index, [suspect])
    return list(zip(suspects, calls[::2], calls[1::2], strict=True))


@pytest.mark.parametrize("rule", RULES)
def test_colours_say_which_label_is_in_doubt(drawn, rule):
    of_rule = [entry for entry in drawn if entry[0].rule == rule]
    assert of_rule
    concerned, others, seen = EXPECTED[rule]
    for suspect, labelled, detected in of_rule:
        expected = [VERDICTS[name] for name in concerned] or [VERDICTS[others]] * len(labelled["palette"])
        assert len(suspect.labels) == len(concerned)
        assert list(labelled["palette"]) == expected
        assert list(detected["palette"]) == [VERDICTS[seen]]


def test_only_objects_of_some_size_are_captioned(drawn):
    sides = np.array([np.prod(rle_box_xywh(suspect.rle)[2:]) ** 0.5 for suspect, _, _ in drawn])
    captions = [detected["captions"][0] for _, _, detected in drawn]
    assert (sides < 20).any()
    assert (sides >= 20).any()
    assert [bool(caption) for caption in captions] == (sides >= 20).tolist()
