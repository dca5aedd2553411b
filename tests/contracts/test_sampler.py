"""What every sampler of proposals keeps to; a new one is covered as soon as its YAML file is there."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from part_cases import build_parts, parts_config, second_stage_input, second_stage_losses, variants, without_gradient

from finemask.model.build import build_model

BATCH_SIZE, POSITIVE_FRACTION = 8, 0.25
LABELS = st.lists(st.lists(st.integers(-1, 3), max_size=30), min_size=1, max_size=3)


@pytest.fixture(params=variants("sampler"), scope="module")
def case(request):
    return request.param


@pytest.fixture(scope="module")
def sampler(case):
    keys = f"batch_size_per_image={BATCH_SIZE} positive_fraction={POSITIVE_FRACTION}"
    return build_model(parts_config(sampler=f"{case} {keys}"), 2).roi_heads.fg_bg_sampler


def hardness_of(labels):
    """Any losses will do, ties among them."""
    return lambda: [(torch.arange(len(of_image)) * 7 % 5).float() for of_image in labels]


@settings(max_examples=50, deadline=None)
@given(labels=LABELS)
def test_the_batch_is_filled_as_far_as_there_are_proposals_and_positives_keep_to_their_share(sampler, labels):
    labels = [torch.tensor(of_image, dtype=torch.int64) for of_image in labels]
    chosen = sampler(labels, hardness_of(labels))
    assert len(chosen) == len(labels)
    for rows, of_image in zip(chosen, labels, strict=True):
        assert rows.dtype == torch.int64
        assert (rows[1:] > rows[:-1]).all(), "ascending, so none twice"
        positives, background = int((of_image > 0).sum()), int((of_image == 0).sum())
        wanted = min(positives, int(BATCH_SIZE * POSITIVE_FRACTION))
        assert int((of_image[rows] > 0).sum()) == wanted
        assert int((of_image[rows] == 0).sum()) == min(background, BATCH_SIZE - wanted)
        assert len(rows) == int((of_image[rows] >= 0).sum()), "what is ignored is never chosen"


def test_the_same_seed_gives_the_same_choice(sampler):
    labels = [torch.tensor([0, 1, 2, 0, 0, 0, 3, 1, 0, 0, 0, 0, 0, 0])]
    choices = []
    for _ in range(2):
        torch.manual_seed(3)
        choices.append(sampler(labels, hardness_of(labels))[0])
    assert torch.equal(*choices)


@pytest.mark.parametrize(("instances", "proposals"), [((3, 2), 12), ((0, 0), 0), ((0, 0), 9)])
def test_a_model_trains_with_it(case, instances, proposals):
    model = build_parts(sampler=case)
    losses = torch.stack(list(second_stage_losses(model, second_stage_input(instances, proposals)).values())).sum()
    assert torch.isfinite(losses)
    losses.backward()
    assert without_gradient(model) == []


def test_mixed_precision_stays_finite(case, half):
    model, batch = build_parts(sampler=case), second_stage_input((1, 0), 8)
    with torch.autocast("cpu", dtype=half):
        losses = second_stage_losses(model, batch)
    assert all(loss.isfinite() for loss in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    assert without_gradient(model) == []  # which a choice made without gradients must not cost


def test_it_adds_nothing_to_the_weights(case):
    assert build_parts(sampler=case).state_dict().keys() == build_parts().state_dict().keys()
