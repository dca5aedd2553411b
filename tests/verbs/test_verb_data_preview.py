"""``finemask data preview``, from the command line to the sheets."""

import numpy as np
import pytest
import torch
from PIL import Image
from stats_data import rectangle, write_coco

from finemask.cli import main
from finemask.config import compose, plain
from finemask.model.mask_rcnn import ImageTransform, preprocessing_from
from finemask.ops.layers import layers_to_masks
from finemask.workflows.build_trainer import build_datamodule
from finemask.workflows.data.preview_sheets import make_pair, open_split

HW = (60, 80)


@pytest.fixture
def root(tmp_path):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (*HW, 3), dtype=np.uint8) for _ in range(5)]
    objects = [(k % 4, "ab"[k % 2], rectangle(HW, 3 * k, k, 3 * k + 20, k + 30)) for k in range(9)]
    crowds = [(4, "a", rectangle(HW, 0, 0, 30, 30))]
    for split in ("train", "val"):
        write_coco(tmp_path / "set", images, objects, crowds=crowds, file=f"annotations/{split}.json")
    return tmp_path / "set"


def preview(root, output, *words):
    return main(
        ["data", "preview", f"data.root={root}", f"output={output}", "model=tiny", "data.num_workers=0", *words]
    )


def configured(root, *words):
    cfg = compose("data preview", [f"data.root={root}", "output=x", "model=tiny", "data.num_workers=0", *words])
    transform = ImageTransform(preprocessing_from(plain(cfg.model)))
    return build_datamodule(cfg), transform


def test_two_sheets_that_say_what_they_show(root, tmp_path, capsys):
    assert preview(root, tmp_path / "out", "n=3", "augment=flip") == 0
    sheets = {path.name: Image.open(path) for path in (tmp_path / "out").iterdir()}
    assert sheets.keys() == {"on_disk.png", "model_input.png"}
    assert sheets["model_input.png"].height > sheets["on_disk.png"].height  # pairs, two in a row
    shown = capsys.readouterr().out
    assert "3 images of train" in shown
    assert str(tmp_path / "out" / "model_input.png") in shown


def test_more_images_make_more_sheets_and_older_ones_go(root, tmp_path, monkeypatch):
    monkeypatch.setattr("finemask.workflows.data.preview_sheets.PER_SHEET", 2)
    output = tmp_path / "out"
    assert preview(root, output, "n=5", "augment=none") == 0
    expected = {f"{name}_{number}.png" for name in ("on_disk", "model_input") for number in (1, 2, 3)}
    assert {path.name for path in output.iterdir()} == expected
    assert preview(root, output, "n=1", "augment=none") == 0
    assert {path.name for path in output.iterdir()} == {"on_disk.png", "model_input.png"}


def test_pictures_of_others_stay(root, tmp_path, capsys):
    output = tmp_path / "out"
    output.mkdir()
    Image.new("RGB", (4, 4)).save(output / "on_disk.png")
    assert preview(root, output, "n=1") == 2
    assert "a picture of something else" in capsys.readouterr().err
    assert Image.open(output / "on_disk.png").size == (4, 4)
    assert len(list(output.iterdir())) == 1


@pytest.mark.parametrize("word", ["split=all", "n=0", "epoch=-1", "color_by=size"])
def test_values_out_of_range(root, tmp_path, capsys, word):
    assert preview(root, tmp_path / "out", word) == 2
    assert f"error: {word.split('=')[0]} cannot be " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_split_that_is_not_there(root, tmp_path, capsys):
    assert preview(root, tmp_path / "out", "split=test") == 2
    assert "data.test is null" in capsys.readouterr().err


def test_it_shows_the_first_images_of_the_epoch_as_training_gets_them(root):
    """Against a loader as the trainer iterates it, and the transform as the model calls it."""
    words = ("augment=light", "seed=7")
    datamodule, transform = configured(root, *words)
    dataset, items = open_split(datamodule, "train", 4, epoch=2)
    pairs = [make_pair(dataset, item, transform, by_class=False) for item in items]
    other, _ = configured(root, *words)
    loader = other.train_dataloader()
    other.set_epoch(2)
    images, targets = [], []
    for some, those in loader:
        images.extend(some)
        targets.extend(those)
    for pair, image, target in zip(pairs, images[:4], targets[:4], strict=True):
        batch, (resized,) = transform([image], [target])
        height, width = batch.image_sizes[0]
        mean, std = (
            torch.tensor(values)[:, None, None]
            for values in (transform.preprocessing.image_mean, transform.preprocessing.image_std)
        )
        pixels = (batch.tensors[0, :, :height, :width] * std + mean) * 255
        assert np.abs(pair.seen.image - pixels.permute(1, 2, 0).numpy()).max() <= 0.51
        masks = layers_to_masks(resized["layers"], resized["slots"])
        ours = layers_to_masks(torch.from_numpy(pair.seen.layers), torch.from_numpy(pair.seen.slots))
        assert torch.equal(ours, masks)
        assert f"id {target['image_id']} " in pair.stored_facts


def test_colours_follow_the_instance_or_the_class(root):
    datamodule, transform = configured(root, "augment=flip")
    dataset, items = open_split(datamodule, "train", 5, epoch=0)
    for item in items:
        own = make_pair(dataset, item, transform, by_class=False)
        assert list(own.seen.keys) == list(own.stored.keys) == list(range(1, len(own.stored.slots) + 1))
        same = make_pair(dataset, item, transform, by_class=True)
        assert list(same.seen.keys) == list(same.stored.keys)
        assert set(same.stored.keys) <= same.labels <= {1, 2}


def test_facts_say_what_became_of_the_objects(root):
    datamodule, transform = configured(root, "augment=none", "data.min_visible_px=500")
    dataset, items = open_split(datamodule, "train", 5, epoch=0)
    facts = {pair.name: (pair.stored_facts, pair.seen_facts)
             for pair in (make_pair(dataset, item, transform, by_class=True) for item in items)}  # fmt: skip
    assert facts["image_4.png"] == ("id 104 · 80 x 60 px · 0 objects and crowd", "170 x 128 px · 0 objects")
    assert facts["image_0.png"] == ("id 100 · 80 x 60 px · 3 objects", "170 x 128 px · 3 objects")
    datamodule.min_visible_px = 601  # all objects have 600
    dataset, items = open_split(datamodule, "train", 5, epoch=0)
    seen = [make_pair(dataset, item, transform, by_class=True).seen_facts for item in items]
    assert "170 x 128 px · 0 objects (3 gone)" in seen


def test_validation_is_spread_over_the_file_and_not_augmented(root):
    datamodule, transform = configured(root, "augment=strong")
    dataset, items = open_split(datamodule, "val", 3, epoch=0)
    assert items == [0, 2, 4]
    transform.eval()
    pair = make_pair(dataset, 0, transform, by_class=True)
    assert pair.seen.image.shape == (128, 170, 3)
    assert pair.seen_facts.endswith("3 objects")


@pytest.mark.parametrize("augment", ["copy_paste", "mosaic", "lsj"])
def test_augmentations_that_mix_images(root, tmp_path, augment):
    assert preview(root, tmp_path / "out", "n=2", f"augment={augment}") == 0


def test_an_experiment_takes_its_whole_configuration_along(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["experiment=quickstart", "output=out", "n=2", "prepare.images=6"]
    assert main(["data", "preview", *words]) == 0
    assert (tmp_path / "data" / "shapes" / "images").is_dir()
    assert (tmp_path / "out" / "model_input.png").is_file()
