"""Loaders: the number of workers changes nothing, epochs differ, splits agree on their categories."""

import math
import shutil
from pathlib import Path

import hydra
import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf
from tiff_data import tiff_bytes

from finemask.coco.index import CocoIndex
from finemask.data.augmentation import AlbumentationsAugmentation, Chain
from finemask.data.datamodule import CocoDataModule
from finemask.data.image_mixing import CopyPaste, Mosaic
from finemask.errors import ConfigError, DataError
from finemask.machine import hardware
from finemask.ops.images.decode import decode_image
from finemask.ops.images.image_reading import ImageReading

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "data" / "coco.yaml"


def flips():
    import albumentations as A  # noqa: N812

    return AlbumentationsAugmentation([A.D4(p=1.0), A.RandomBrightnessContrast(p=1.0)])


def epochs(loader, data, numbers):
    """Everything the loader gives in these epochs, as plain values."""
    out = []
    for epoch in numbers:
        data.set_epoch(epoch)
        for images, targets in loader:
            for image, target in zip(images, targets, strict=True):
                tensors = [v for v in target.values() if isinstance(v, torch.Tensor)]
                out.append((epoch, target["image_id"], image.clone(), *(t.clone() for t in tensors)))
    return out


def assert_same(first, second):
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert a[:2] == b[:2]
        assert all(torch.equal(x, y) for x, y in zip(a[2:], b[2:], strict=True))


def test_workers_change_nothing(shapes_dir):
    results = []
    for num_workers in (0, 2):
        data = CocoDataModule(shapes_dir, batch_size=4, num_workers=num_workers, augment=flips(), seed=3)
        data.setup("fit")
        results.append(epochs(data.train_dataloader(), data, (0, 1)))
        if num_workers:  # what persistent workers count is seen here
            assert data.train_dataset.num_lost.sum() >= 0
    assert_same(*results)
    first, second = ({id_: image for e, id_, image, *_ in results[0] if e == epoch} for epoch in (0, 1))
    assert set(first) == set(second) == set(range(1, 28))
    assert sum(torch.equal(first[i], second[i]) for i in first) < 3
    # a run that begins at epoch 1 sees what the undisturbed one saw there
    data = CocoDataModule(shapes_dir, batch_size=4, num_workers=0, augment=flips(), seed=3)
    data.setup("fit")
    assert_same(epochs(data.train_dataloader(), data, (1,)), [row for row in results[0] if row[0] == 1])


def test_workers_change_nothing_where_images_are_mixed_and_repeated(shapes_dir):
    augment = Chain(flip=flips(), paste=CopyPaste(0.7), mosaic=Mosaic(96, 0.4))
    settings = {"max_instances": 6, "empty_images": 0.5, "repeat_threshold": 0.9, "augment": augment, "seed": 5}
    results = []
    for num_workers in (0, 1, 2):
        data = CocoDataModule(shapes_dir, batch_size=3, num_workers=num_workers, **settings)
        data.setup("fit")
        loader = data.train_dataloader()
        results.append(epochs(loader, data, (0, 1) if num_workers != 1 else (1,)))
        assert len(loader) == math.ceil(data.train_weights.sum() / 3)
    assert_same(results[0], results[2])
    # begun at epoch 1, as a resumed run does
    assert_same(results[1], [row for row in results[0] if row[0] == 1])
    images = {(row[0], row[1]): row[2] for row in results[0]}
    repeated = [row for row in results[0] if not torch.equal(images[row[:2]], row[2])]
    assert repeated, "an image that comes twice an epoch is augmented in two ways"


def test_images_without_objects(shapes_dir, caplog):
    def shown(**settings):
        data = CocoDataModule(shapes_dir, num_workers=0, **settings)
        data.setup("fit")
        loader = data.train_dataloader()
        seen = []
        for epoch in range(8):
            data.set_epoch(epoch)
            seen.append({i for batch in loader.batch_sampler for _, i, _ in batch})
        return seen

    index = CocoDataModule(shapes_dir, num_workers=0)
    index.setup("fit")
    empty = {i for i in range(27) if index.train_index.instances(i).iscrowd.all()}
    assert len(empty) == 1
    everything = set(range(27))
    with caplog.at_level("INFO", logger="finemask"):
        assert all(seen == everything for seen in shown())
        assert "1 of 27 training images have no objects; data.empty_images=keep" in caplog.text
        assert all(seen == everything - empty for seen in shown(empty_images="drop"))
        assert {frozenset(seen) for seen in shown(empty_images=0.5)} == {
            frozenset(everything),
            frozenset(everything - empty),
        }
        shown(repeat_threshold=0.9)
        assert "training images, of 27; those of rare classes up to 1." in caplog.text
        shown(max_instances=2)
        assert "of 27 training images have more than 2 objects (data.max_instances)" in caplog.text


class Watcher(pl.LightningModule):
    """Learns nothing; notes the pixels it is given, by epoch."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen = {}

    def training_step(self, batch, batch_idx):
        for image, target in zip(*batch, strict=True):
            self.seen.setdefault(self.current_epoch, {})[target["image_id"]] = int(image.sum())
        return self.weight.sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.filterwarnings("ignore")
def test_lightning_sets_the_epoch_before_workers_prefetch(shapes_dir, tmp_path):
    def fit(epochs_to, checkpoint=None):
        data = CocoDataModule(shapes_dir, val=None, batch_size=9, num_workers=1, augment=flips())
        trainer = pl.Trainer(
            max_epochs=epochs_to,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        watcher = Watcher()
        trainer.fit(watcher, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        trainer.save_checkpoint(tmp_path / f"{epochs_to}.ckpt")
        return watcher.seen

    whole = fit(3)
    fit(2)
    resumed = fit(3, tmp_path / "2.ckpt")
    assert len(whole) == 3
    assert len({tuple(sorted(images.items())) for images in whole.values()}) == 3
    assert resumed == {2: whole[2]}


def test_validation_is_the_file_in_order(shapes_dir):
    data = CocoDataModule(shapes_dir, batch_size=2, eval_batch_size=3, num_workers=0, augment=flips())
    data.setup("validate")
    seen = [target["image_id"] for _, targets in data.val_dataloader() for target in targets]
    assert seen == data.val_index.image_ids.tolist() == list(range(28, 35))
    assert data.test_index is None
    assert data.test_dataloader() == []
    images, targets = next(iter(data.val_dataloader()))
    assert len(images) == len(targets) == 3
    np.testing.assert_array_equal(images[0], data.val_dataloader().dataset[0][0])  # nothing augmented


def test_ranks_share_evaluation(shapes_dir, monkeypatch):
    data = CocoDataModule(shapes_dir, num_workers=0)
    data.setup()
    seen = []
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 3)
    for rank in range(3):
        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        seen += [t["image_id"] for _, targets in data.val_dataloader() for t in targets]
        assert len(data.train_dataloader()) == 5  # 27 images, 3 ranks, 2 a batch
    assert sorted(seen) == list(range(28, 35))


def test_splits_that_differ_are_refused(shapes_dir, tmp_path):
    text = (shapes_dir / "annotations" / "val.json").read_text().replace('"star"', '"cross"')
    (shapes_dir / "annotations" / "renamed.json").write_text(text)
    data = CocoDataModule(shapes_dir, val="annotations/renamed.json", num_workers=0)
    with pytest.raises(DataError, match=r"renamed\.json.*'cross', which training lacks and lacks 'star'"):
        data.setup("fit")
    with pytest.raises(DataError, match="no such file"):
        CocoDataModule(tmp_path / "absent", num_workers=0).setup("fit")


def test_what_is_read_of_images_is_chosen_once_for_all_splits(shapes_dir, tmp_path):
    root = tmp_path / "ten_bits"
    shutil.copytree(shapes_dir, root)
    for path in (file for file in (root / "images").rglob("*") if file.is_file()):
        rgb = decode_image(path)
        path.write_bytes(tiff_bytes(np.zeros_like(rgb), rgb.astype(np.uint16) * 4, meaning=2))
    plain = CocoDataModule(shapes_dir, num_workers=0)
    chosen = CocoDataModule(root, image={"page": 1, "range": [0, 1020], "channels": None}, num_workers=0)
    for data in (plain, chosen):
        data.setup("fit")
    for loader in ("train_dataloader", "val_dataloader"):
        for (images, _), (expected, _) in zip(getattr(chosen, loader)(), getattr(plain, loader)(), strict=True):
            assert all(torch.equal(a, b) for a, b in zip(images, expected, strict=True))
    assert chosen.reading == ImageReading(page=1, range=(0, 1020))
    silent = CocoDataModule(root, num_workers=0)
    silent.setup("fit")
    with pytest.raises(DataError, match=r"it has 2 pages.*data\.image\.page"):
        next(iter(silent.train_dataloader()))
    with pytest.raises(ConfigError, match=r"image\.range"):
        CocoDataModule(root, image={"range": [3, 2]})


def test_values_are_checked(shapes_dir):
    for wrong in (
        {"batch_size": 0},
        {"num_workers": -1},
        {"num_workers": "many"},
        {"eval_batch_size": 2.5},
        {"max_instances": 0},
    ):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            CocoDataModule(shapes_dir, **wrong)
    for wrong in ({"empty_images": "some"}, {"repeat_threshold": 2}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            CocoDataModule(shapes_dir, num_workers=0, **wrong).setup()
    assert CocoDataModule(shapes_dir).num_workers == max(0, min(hardware.cores() - 1, 8))


@pytest.mark.parametrize(("quota", "workers"), [("max 100000", 5), ("300000 100000", 2), ("50000 100000", 0), ("", 5)])
def test_a_worker_for_every_core_but_one_that_the_process_may_use(monkeypatch, shapes_dir, quota, workers):
    monkeypatch.setattr(hardware.os, "sched_getaffinity", lambda process: set(range(6)), raising=False)
    monkeypatch.setattr(hardware, "_read", {"/sys/fs/cgroup/cpu.max": quota}.__getitem__)
    assert CocoDataModule(shapes_dir).num_workers == workers


def test_shipped_configuration(shapes_dir):
    config = OmegaConf.create({"seed": 4, "augment": None, "preset": {"batch_size": 2}, "data": OmegaConf.load(CONFIG)})
    config.data.root = str(shapes_dir)
    data = hydra.utils.instantiate(config.data)
    data.setup("fit")
    assert [category.name for category in data.categories] == ["circle", "rectangle", "triangle", "star"]
    assert data.seed == 4
    assert len(data.train_index) == 27


def test_the_cache_goes_where_it_is_told(shapes_dir, tmp_path, monkeypatch):
    seen = []
    read = CocoIndex.read.__func__

    def spy(cls, *arguments, **options):
        seen.append(options["cache"])
        return read(cls, *arguments, **options)

    monkeypatch.setattr(CocoIndex, "read", classmethod(spy))
    for cache in ("auto", str(tmp_path / "kept"), None):
        CocoDataModule(shapes_dir, cache=cache).setup("fit")
    assert seen == ["auto"] * 2 + [tmp_path / "kept"] * 2 + [None] * 2
