"""Files that version 0.1 wrote, before parts moved to other modules: they load, and say what they said then."""

from pathlib import Path

import numpy as np

import finemask

FIXTURES = Path(__file__).parents[1] / "fixtures"


def test_a_model_file_of_0_1_finds_what_it_found_then() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 20, 3), dtype=np.uint8)
    image = pixels.repeat(8, axis=0).repeat(8, axis=1)

    found = finemask.load(FIXTURES / "model_0_1.safetensors", device="cpu").predict(image, threshold=0.0)

    # printed by 0.1 for this file and image
    assert len(found) == 100
    np.testing.assert_allclose(
        found.boxes[:2],
        [[37.974213, 77.626045, 50.330338, 90.195396], [37.978889, 17.607372, 50.337990, 30.198303]],
        atol=1e-3,
    )
    np.testing.assert_allclose(found.scores[:3], [0.191386, 0.189315, 0.188778], atol=1e-5)
    assert found.labels[:3].tolist() == [2, 2, 2]
