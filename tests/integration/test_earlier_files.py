"""Files that version 0.1 wrote, before parts moved to other modules: they load, and say what they said then."""

from pathlib import Path

import numpy as np
import pytest

import finemask
from finemask.data.shapes import draw_shapes

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


def test_a_checkpoint_of_0_1_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a run of its own, since it lies outside one; what it did not keep cannot be compared."""
    monkeypatch.chdir(tmp_path)
    draw_shapes(Path("shapes"), images=6, size=64, seed=1)
    parts = [
        "model/box_loss=giou",
        "model/class_loss=focal",
        "model/mask_loss=edge",
        "model/sampler=ohem",
        "model/suppression=soft_gaussian",
        "model/mask_predictor=mask_iou",
        "model.backbone.channels=[8,8,8,8]",
        "model.backbone.out_channels=8",
        "model.box_head.representation_size=16",
        "model.mask_head.channels=[8]",
    ]
    checkpoint = FIXTURES / "last_0_1.ckpt"

    # 0.1 trained with SGD and batches of 2, which are not what model=tiny brings today
    typed = ["model=tiny", "preset=standard", *parts, "trainer.max_epochs=2", "data.num_workers=0"]
    run = finemask.train("shapes", [*typed, f"resume='{checkpoint}'"])

    assert run is not None
    assert "resumed from last_0_1.ckpt" in (run.model_path.parent / "train.log").read_text()
    with pytest.raises(finemask.FinemaskError, match="does not hold the configuration"):
        finemask.MaskRCNNModule.load_from_checkpoint(checkpoint)
