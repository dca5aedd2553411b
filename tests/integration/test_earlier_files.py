"""Files that earlier versions wrote, before parts moved to other modules: they load, and say what they said then."""

import shutil
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

import finemask
from finemask.cli import main
from finemask.config.config_files import shipped_targets
from finemask.config.moved_targets import MOVED, present_target, with_present_targets
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


def test_a_run_of_before_is_resumed_from_its_own_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its config.yaml and its checkpoint name augmentations, backbone and heads where they stood then."""
    monkeypatch.chdir(tmp_path)
    draw_shapes(Path("shapes"), images=6, size=64, seed=1)
    run = Path("runs/before/2026-11-30_06-31-27")
    shutil.copytree(FIXTURES / "run_before_moves", run)
    checkpoint = run / "last.ckpt"

    typed = ["--config-dir", str(run), "--config-name", "config", f"resume={checkpoint}", "trainer.max_epochs=2"]
    assert main(["train", *typed]) == 0

    resumed = max(Path("runs/before").glob("*/metrics.json"), key=lambda path: path.stat().st_mtime).parent
    assert resumed.name != run.name
    assert "is another one" not in (resumed / "train.log").read_text()
    named = OmegaConf.load(resumed / "config.yaml")
    assert named.augment.paste._target_ == "finemask.data.image_mixing.CopyPaste"
    assert named.model.mask_predictor._target_ == "finemask.model.mask_predictor.mask_scoring.MaskIoUMaskPredictor"
    before = torch.load(checkpoint, weights_only=True)
    after = torch.load(resumed / "checkpoints" / "last.ckpt", weights_only=True)
    assert after["global_step"] == 2 * before["global_step"] > 0
    assert after["model_config"]["backbone"]["_target_"] == "finemask.model.backbones.families.small_fpn"


def test_a_module_of_before_loads_and_finds_what_it_found_then() -> None:
    module = finemask.MaskRCNNModule.load_from_checkpoint(FIXTURES / "run_before_moves" / "last.ckpt")
    pixels = np.random.default_rng(0).integers(0, 256, (16, 20, 3), dtype=np.uint8)
    image = torch.from_numpy(pixels.repeat(8, axis=0).repeat(8, axis=1)).permute(2, 0, 1)

    with torch.inference_mode():
        (found,) = module.model.eval()([image])

    # printed by the version that wrote it
    np.testing.assert_allclose(found["scores"][:3], [0.206880, 0.205690, 0.205194], atol=1e-5)
    np.testing.assert_allclose(found["boxes"][0], [149.865738, 20.754814, 159.264481, 34.742397], atol=1e-3)


@pytest.mark.parametrize("old", MOVED)
def test_what_moved_stands_where_the_table_says(old: str) -> None:
    assert import_module(MOVED[old])
    assert present_target(MOVED[old] + ".Name") == MOVED[old] + ".Name", "one step leads there"


def test_every_part_that_a_file_of_before_names_is_there() -> None:
    def targets(node: object) -> set[str]:
        inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
        own = {node["_target_"]} if isinstance(node, dict) and "_target_" in node else set()
        return own.union(*map(targets, inner))

    config = OmegaConf.to_container(OmegaConf.load(FIXTURES / "run_before_moves" / "config.yaml"))
    old, present = targets(config), targets(with_present_targets(config))
    assert len(old - present) >= 8
    for target in present:
        module, _, name = target.rpartition(".")
        assert hasattr(import_module(module), name)
    assert all(present_target(name) == name for group in ("model", "augment") for name in shipped_targets(group))
    flat = {"model.backbone._target_": "finemask.model.small_backbone.small_fpn", "n": (1, 2)}
    assert with_present_targets(flat) == flat | {
        "model.backbone._target_": "finemask.model.backbones.families.small_fpn"
    }
