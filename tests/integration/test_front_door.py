"""What ``import finemask`` is for: a Lightning script of ten lines with one import, and the verbs as functions."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

import finemask
from finemask.data.shapes import draw_shapes

TINY = [
    "model.backbone.channels=[8,8,8,8]",
    "model.backbone.out_channels=8",
    "model.box_head.representation_size=16",
    "model.mask_head.channels=[8]",
]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("it's data") / "shapes"  # a quote and a blank: paths are not Hydra's grammar
    draw_shapes(folder, images=8, size=64, seed=1)
    annotations = folder / "annotations"
    shutil.copy(annotations / "val.json", annotations / "test.json")
    return folder


class Noted(pl.Callback):
    """A callback of one's own: it sees the metrics."""

    def __init__(self) -> None:
        self.seen: list[set[str]] = []

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.seen.append(set(trainer.callback_metrics))


@pytest.fixture(scope="module")
def trained(
    shapes: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[pl.Trainer, finemask.MaskRCNNModule, Noted]:
    torch.manual_seed(0)
    data = finemask.CocoDataModule(shapes, test="annotations/test.json", batch_size=4, num_workers=0)
    model = finemask.maskrcnn("tiny", num_classes=data.num_classes, overrides=TINY)
    module = finemask.MaskRCNNModule(model, lr=5e-4)
    own = Noted()
    trainer = pl.Trainer(
        max_epochs=2,
        callbacks=[own],
        default_root_dir=tmp_path_factory.mktemp("logs"),
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, data)
    return trainer, module, own


def test_a_plain_script_logs_mask_ap(trained) -> None:
    _, _, own = trained
    assert len(own.seen) >= 2
    assert all({"val/segm_AP", "val/bbox_AP"} <= seen for seen in own.seen[-2:])


def test_validate_and_test_return_the_metrics(trained) -> None:
    trainer, module, _ = trained
    (validated,) = trainer.validate(module, datamodule=trainer.datamodule, verbose=False)
    (tested,) = trainer.test(module, datamodule=trainer.datamodule, verbose=False)
    assert 0 <= validated["val/segm_AP"] <= 1
    # the test file is the validation file
    assert tested["test/segm_AP"] == validated["val/segm_AP"]
    assert tested["test/recall"] == pytest.approx(validated["val/recall"], nan_ok=True)


def test_a_checkpoint_needs_nothing_else(trained, tmp_path: Path) -> None:
    trainer, module, _ = trained
    path = tmp_path / "own.ckpt"
    trainer.save_checkpoint(path)

    again = finemask.MaskRCNNModule.load_from_checkpoint(path)

    assert again.model.config == module.model.config
    assert again.categories == module.categories
    weights = again.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in module.state_dict().items())
    finemask.save_model(again, tmp_path / "again.safetensors")
    assert finemask.load(tmp_path / "again.safetensors").categories == tuple(module.categories)


def test_the_model_file_of_a_module_finds_what_the_module_finds(trained, shapes: Path, tmp_path: Path) -> None:
    _, module, _ = trained
    finemask.save_model(module, tmp_path / "model.safetensors")
    predictor = finemask.load(tmp_path / "model.safetensors", device="cpu")

    found = predictor.predict(sorted((shapes / "images").iterdir())[0], threshold=0.0)

    assert isinstance(found, finemask.Instances)
    assert found.class_names
    assert set(found.class_names) <= {category.name for category in module.categories}


def test_a_model_for_other_data_is_refused(shapes: Path) -> None:
    data = finemask.CocoDataModule(shapes, num_workers=0)
    module = finemask.MaskRCNNModule(finemask.maskrcnn("tiny", num_classes=3, overrides=TINY))
    trainer = pl.Trainer(max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    with pytest.raises(finemask.FinemaskError, match="num_classes=3, the data have 4 categories"):
        trainer.fit(module, data)


def test_loaders_without_a_ground_truth_are_refused_in_words(trained) -> None:
    trainer, module, _ = trained
    alone = finemask.MaskRCNNModule(module.model, categories=module.categories)
    with pytest.raises(finemask.FinemaskError, match="no ground truth of the val split"):
        pl.Trainer(logger=False, enable_progress_bar=False).validate(
            alone, dataloaders=trainer.datamodule.val_dataloader(), verbose=False
        )


def test_a_model_of_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(finemask.FinemaskError, match="model=light"):
        finemask.maskrcnn("lihgt", num_classes=2)
    with pytest.raises(finemask.FinemaskError, match="background"):
        finemask.maskrcnn("tiny", num_classes=1)


def test_the_verbs_are_functions(shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = finemask.train(shapes, ["model=tiny", "trainer.max_epochs=1", "data.num_workers=0", *TINY])
    assert run is not None
    assert run.model_path.is_file()
    written = json.loads((run.model_path.parent / "metrics.json").read_text())
    assert run.metrics["segm"] == written["segm"]

    metrics = finemask.evaluate(run.model_path, shapes, output=tmp_path / "scores")
    assert metrics["segm"] == written["segm"]
    of_file = finemask.evaluate(
        predictions=tmp_path / "scores" / "predictions.json",
        annotations=shapes / "annotations" / "val.json",
        output=tmp_path / "again",
    )
    assert of_file["segm"] == metrics["segm"]
    with pytest.raises(finemask.FinemaskError, match="model="):
        finemask.evaluate()


def test_a_path_from_python_arrives_as_it_is(tmp_path: Path) -> None:
    """Windows parts folders with backslashes; Hydra's grammar has a meaning for some."""
    missing = str(tmp_path / "it's\\here.json")
    with pytest.raises(finemask.FinemaskError) as caught:
        finemask.evaluate(predictions=missing, annotations=missing)
    assert missing in str(caught.value)


def test_everything_offered_is_there_and_the_import_is_instant() -> None:
    assert all(getattr(finemask, name) is not None for name in finemask.__all__)
    assert set(finemask.__all__) <= set(dir(finemask))
    code = "import finemask, sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
