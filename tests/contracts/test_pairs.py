"""Every two options of different kinds of parts work in one model: a step of training, and a detection."""

from itertools import combinations

import pytest
import torch
from model_cases import random_scene
from part_cases import KINDS, SIDE_PX, build_parts, variants

OPTIONS = {kind: variants(kind) for kind in KINDS}


def pairs_of(row: dict[str, str]) -> set[frozenset]:
    return {frozenset(pair) for pair in combinations(row.items(), 2)}


def all_pairs(options: dict[str, list[str]]) -> set[frozenset]:
    return {
        frozenset({(one, a), (other, b)})
        for one, other in combinations(options, 2)
        for a in options[one]
        for b in options[other]
    }


def covering_array(options: dict[str, list[str]]) -> list[dict[str, str]]:
    """Few rows, one option of each kind in a row, in which every pair of options occurs: greedy, always the same."""
    missing, rows = all_pairs(options), []
    while missing:
        row = dict(min(missing, key=sorted))
        for kind in sorted(set(options) - set(row), key=lambda kind: (-len(options[kind]), kind)):
            row[kind] = max(options[kind], key=lambda name: len(pairs_of({**row, kind: name}) & missing))
        missing -= pairs_of(row)
        rows.append(dict(sorted(row.items())))  # a set has another order in every process
    return rows


ROWS = covering_array(OPTIONS)


def test_the_rows_cover_every_pair_and_are_far_fewer_than_all_combinations():
    assert set().union(*map(pairs_of, ROWS)) == all_pairs(OPTIONS)
    three = {kind: list("abcdef"[:count]) for kind, count in {"p": 6, "q": 4, "r": 3, "s": 2}.items()}
    assert set().union(*map(pairs_of, covering_array(three))) == all_pairs(three)
    assert 24 <= len(covering_array(three)) <= 36  # 24 is the bound below, 144 are all


@pytest.mark.parametrize("row", ROWS, ids=lambda row: "-".join(row.values()))
def test_a_step_of_training_and_a_detection(row):
    model = build_parts(**row)
    image, target, _ = random_scene(SIDE_PX, SIDE_PX, 3)
    losses = model([image], [target])
    assert all(loss.isfinite() for loss in losses.values()), losses
    torch.stack(list(losses.values())).sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    torch.optim.SGD(model.parameters(), lr=1e-3).step()
    model.roi_heads.score_thresh = 0.0
    with torch.inference_mode():
        (found,) = model.eval()([image])
    assert len(found["scores"]) > 0
    assert all(found[key].isfinite().all() for key in ("boxes", "scores", "mask_probs"))
