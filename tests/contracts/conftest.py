"""What the suites of all kinds of parts share."""

import pytest
import torch
from part_cases import second_stage_input


@pytest.fixture
def batch() -> tuple:
    """Two images with instances, and proposals near them and elsewhere."""
    return second_stage_input()


@pytest.fixture(params=[torch.bfloat16, torch.float16], ids=str)
def half(request: pytest.FixtureRequest) -> torch.dtype:
    """The types that mixed precision computes in."""
    return request.param
