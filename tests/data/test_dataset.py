"""Samples: masks, boxes and labels belong together, and what is random is repeatable."""

import numpy as np
import pytest
import torch
from PIL import Image

from finemask.coco.index import CocoIndex
from finemask.data.augmentation import AlbumentationsAugmentation, Chain, NoAugmentation
from finemask.data.dataset import InstanceDataset
from finemask.data.image_mixing import CopyPaste, LargeScaleJitter, Mosaic
from finemask.errors import DataError
from finemask.ops.layers import layers_to_masks


@pytest.fixture(scope="module")
def index(shapes_dir):
    return CocoIndex.read(shapes_dir / "annotations" / "train.json", shapes_dir / "images")


def true_masks(index, i):
    instances = index.instances(i)
    masks, labels = [], []
    for k in np.flatnonzero(~instances.iscrowd):
        crop, x0, y0 = instances.crop(k)
        mask = np.zeros(index.size_hw(i), dtype=np.bool_)
        mask[y0 : y0 + crop.shape[0], x0 : x0 + crop.shape[1]] = crop
        masks.append(mask)
        labels.append(int(instances.labels[k]))
    return masks, labels


def assert_consistent(image, target, min_visible_px=1):
    assert image.dtype == torch.uint8
    assert image.shape == (3, *target["layers"].shape[1:])
    assert len(target["boxes"]) == len(target["labels"]) == len(target["slots"])
    assert target["boxes"].shape[1:] == (4,)
    assert target["slots"].shape[1:] == (2,)
    masks = layers_to_masks(target["layers"], target["slots"])
    assert target["layers"].count_nonzero() == masks.sum()  # no pixel of a dropped instance is left
    for mask, box in zip(masks, target["boxes"], strict=True):
        ys, xs = mask.nonzero(as_tuple=True)
        assert len(ys) >= min_visible_px
        assert box.tolist() == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]


def test_samples_hold_every_mask_exactly(index):
    dataset = InstanceDataset(index, min_visible_px=1)
    empty = 0
    for i in range(len(dataset)):
        image, target = dataset[i]
        assert_consistent(image, target)
        assert target["image_id"] == index.image_ids[i]
        np.testing.assert_array_equal(image.permute(1, 2, 0), np.asarray(Image.open(index.image_path(i))))
        masks, labels = true_masks(index, i)
        assert target["labels"].tolist() == labels
        found = layers_to_masks(target["layers"], target["slots"]).numpy()
        np.testing.assert_array_equal(found, np.array(masks).reshape(found.shape))
        empty += not labels
    assert empty == 1


def test_nuclei_by_the_hundred(shared_dir):
    root = shared_dir / "datasets" / "nuclei"
    index = CocoIndex.read(root / "annotations" / "train.json", root / "images")
    crowded = int(np.argmax(np.diff(index.first_annotation)))
    target = InstanceDataset(index, min_visible_px=1)[crowded][1]
    assert len(target["boxes"]) > 255
    assert len(target["layers"]) > 1
    layers, instances = target["layers"].numpy(), index.instances(crowded)
    pixels = 0
    for k, (layer, value) in enumerate(target["slots"].tolist()):
        crop, x0, y0 = instances.crop(k)
        window = layers[layer, y0 : y0 + crop.shape[0], x0 : x0 + crop.shape[1]]
        np.testing.assert_array_equal(window == value, crop)
        pixels += crop.sum()
    assert np.count_nonzero(layers) == pixels
    image, target = InstanceDataset(index, min_visible_px=1, max_instances=270)[crowded]
    assert_consistent(image, target)
    assert len(target["labels"]) == 270


class CropTo:
    """Keeps the upper left corner."""

    def __init__(self, side):
        self.side = side

    def __call__(self, image, layers, rng):
        return image[: self.side, : self.side], layers[:, : self.side, : self.side]


@pytest.mark.parametrize("side", [3, 20, 50, 96])
@pytest.mark.parametrize("min_visible_px", [1, 40])
def test_what_a_crop_cuts_off_is_dropped_whole(index, side, min_visible_px):
    dataset = InstanceDataset(index, CropTo(side), min_visible_px=min_visible_px)
    lost = 0
    for i in range(12):
        image, target = dataset[i]
        assert_consistent(image, target, min_visible_px)
        masks, labels = true_masks(index, i)
        kept = [k for k, mask in enumerate(masks) if mask[:side, :side].sum() >= min_visible_px]
        assert target["labels"].tolist() == [labels[k] for k in kept]
        lost += len(masks) - len(kept)
    assert int(dataset.num_lost.sum()) == lost


def test_empty_masks_are_dropped_and_counted(write_dataset, document):
    document["annotations"].append(
        {"id": 50, "image_id": 3, "category_id": 9, "segmentation": [[90, 90, 95, 90, 95, 95]]}
    )
    document["annotations"].append(
        {"id": 51, "image_id": 3, "category_id": 4, "segmentation": {"size": [8, 8], "counts": [64]}}
    )
    dataset = InstanceDataset(CocoIndex.read(*write_dataset(document)))
    target = dataset[1][1]
    assert target["labels"].tolist() == [2]
    assert dataset.num_empty.tolist() == [0, 2, 0]
    assert dataset[2][1]["boxes"].shape == (0, 4)
    assert dataset[2][1]["layers"].shape == (1, 6, 9)


def test_wrong_size_and_unreadable_images_are_named(write_dataset, document):
    path, folder = write_dataset(document)
    dataset = InstanceDataset(CocoIndex.read(path, folder))
    Image.new("RGB", (5, 5)).save(folder / "b.png")
    with pytest.raises(DataError, match=r"b\.png: the image is 5 × 5 px, its annotations say 12 × 10"):
        dataset[0]
    (folder / "b.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"b\.png"):
        dataset[0]


def test_exif_rotation_follows_the_annotations(write_dataset, document):
    path, folder = write_dataset(document)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (12, 10)).save(folder / "b.png", exif=exif)  # annotated raw
    dataset = InstanceDataset(CocoIndex.read(path, folder))
    assert dataset[0][0].shape == (3, 10, 12)
    Image.new("RGB", (10, 12)).save(folder / "b.png", exif=exif)  # annotated as viewers show it
    assert dataset[0][0].shape == (3, 10, 12)


class Recorder:
    """Draws one number a sample and paints the image with it."""

    def __call__(self, image, layers, rng):
        return np.full_like(image, rng.integers(256)), layers


def test_randomness_is_of_seed_epoch_and_index(index):
    def draws(seed, epoch, augment=None):
        dataset = InstanceDataset(index, augment or Recorder(), seed=seed)
        return [int(dataset[(epoch, i)][0][0, 0, 0]) for i in range(len(dataset))]

    assert draws(1, 5) == draws(1, 5)
    assert len({tuple(draws(seed, epoch)) for seed in (0, 1) for epoch in (0, 1, 2)}) == 6
    assert len(set(draws(0, 0))) > 10
    dataset = InstanceDataset(index, Recorder(), seed=1)
    dataset.set_epoch(5)
    assert [int(dataset[i][0][0, 0, 0]) for i in range(len(dataset))] == draws(1, 5)


def test_no_augmentation_is_no_work(index):
    assert InstanceDataset(index, NoAugmentation()).augment is None
    image, layers = np.zeros((2, 2, 3), np.uint8), np.zeros((1, 2, 2), np.uint8)
    assert NoAugmentation()(image, layers, np.random.default_rng()) == (image, layers)


def test_albumentations_over_a_dataset(index):
    import albumentations as A  # noqa: N812

    augment = AlbumentationsAugmentation([A.Affine(scale=(0.3, 2), rotate=(-90, 90), p=1.0), A.D4(p=1.0)])
    dataset = InstanceDataset(index, augment, min_visible_px=5)
    for i in range(len(dataset)):
        assert_consistent(*dataset[i], min_visible_px=5)


def test_max_instances_keeps_a_random_choice(index):
    everything = InstanceDataset(index, min_visible_px=1)
    dataset = InstanceDataset(index, min_visible_px=1, max_instances=2)
    seen, lost = {}, 0
    for epoch in range(8):
        for i in range(5):
            image, target = dataset[(epoch, i)]
            whole_image, whole = everything[i]
            assert_consistent(image, target)
            assert torch.equal(image, whole_image)
            assert len(target["labels"]) == min(2, len(whole["labels"]))
            assert dataset.num_unused[i] == len(whole["labels"]) - len(target["labels"])
            boxes = whole["boxes"].tolist()
            kept = [boxes.index(box) for box in target["boxes"].tolist()]
            assert kept == sorted(kept)
            assert target["labels"].tolist() == whole["labels"][kept].tolist()
            seen.setdefault(i, set()).update(kept)
            lost += int(dataset.num_unused[i])
            again = dataset[(epoch, i)][1]
            assert torch.equal(again["boxes"], target["boxes"])
    assert lost > 0
    fullest = max(range(5), key=lambda i: len(everything[i][1]["labels"]))
    assert len(seen[fullest]) >= 4  # every epoch chooses anew


def test_repetitions_differ_and_the_first_is_the_plain_one(index):
    dataset = InstanceDataset(index, Recorder(), seed=2)
    colours = [[int(dataset[item][0][0, 0, 0]) for item in ((4, i), (4, i, 0), (4, i, 1), (4, i, 2))] for i in range(9)]
    plain, first, second, third = zip(*colours, strict=True)
    assert plain == first
    assert len({first, second, third}) == 3


class ShowDrawn:
    """Shows another image of the dataset in place of the one whose turn it is."""

    def augment_scene(self, scene, draw, rng):
        return draw(rng)


def test_other_images_are_drawn_as_often_as_they_are_shown(index):
    weights = np.ones(len(index))
    weights[:5], weights[5] = 0.0, 4.0
    with_objects = [i for i in range(len(index)) if not index.instances(i).iscrowd.all()]
    assert len(with_objects) < len(index)
    dataset = InstanceDataset(index, ShowDrawn(), min_visible_px=1, weights=weights)
    colours = {InstanceDataset(index)[i][0].numpy().tobytes(): i for i in range(len(index))}
    drawn = [colours[dataset[(epoch, 7)][0].numpy().tobytes()] for epoch in range(150)]
    assert set(drawn) == set(with_objects) - set(range(5))
    assert 10 < drawn.count(5) < 40  # 4 of 25 shares or so
    assert drawn[:20] == [colours[dataset[(epoch, 7)][0].numpy().tobytes()] for epoch in range(20)]
    image, target = dataset[(0, 7)]
    assert_consistent(image, target)
    assert target["image_id"] == index.image_ids[7]


def test_a_dataset_without_objects_still_draws(write_dataset, document):
    document["annotations"] = [entry for entry in document["annotations"] if entry.get("iscrowd")]
    dataset = InstanceDataset(CocoIndex.read(*write_dataset(document)), CopyPaste(1.0))
    image, target = dataset[(0, 1)]
    assert image.shape == (3, 8, 8)
    assert target["boxes"].shape == (0, 4)


def test_mixing_over_a_dataset(index):
    import albumentations as A  # noqa: N812

    augment = Chain(
        jitter=LargeScaleJitter(96, scale=(0.4, 1.6)),
        flip=AlbumentationsAugmentation([A.D4(p=1.0)]),
        paste=CopyPaste(0.8, images=2, blend_px=1.0),
        mosaic=Mosaic(96, 0.5),
    )
    dataset = InstanceDataset(index, augment, min_visible_px=5, seed=9)
    counts = []
    for i in range(len(dataset)):
        image, target = dataset[(3, i)]
        assert image.shape == (3, 96, 96)
        assert_consistent(image, target, min_visible_px=5)
        counts.append(len(target["labels"]))
    assert max(counts) > index.max_instances_per_image
