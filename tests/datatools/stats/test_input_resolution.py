"""What statistics judge a dataset by."""

import pytest
from model_cases import model_config

from finemask.datatools.stats.input_resolution import ModelSettings
from finemask.errors import ConfigError


@pytest.mark.parametrize("key", ["anchors", "rpn"])
def test_anchors_and_proposals_of_ones_own_are_not_judged(key):
    config = model_config("tiny")
    assert ModelSettings.of(config).anchor_sizes == (12, 24, 48, 96, 160)
    config[key] = {"_target_": "lab.part"}
    with pytest.raises(ConfigError, match=rf"model\.{key}: lab\.part is not finemask's own.*such as model=light"):
        ModelSettings.of(config)
