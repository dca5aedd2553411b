"""Pictures of masks in the layouts of the Data Science Bowl, Penn-Fudan, Cityscapes, MOTS and finemask itself."""

import numpy as np
import pytest
from convert_data import only, read_back, write_image, write_mask

from finemask.datatools.convert.conversion import convert, detect_format
from finemask.datatools.convert.mask_png_format import label_map_rles, read_label_map, read_mask_png
from finemask.datatools.convert.source_files import ReadOptions, Source
from finemask.errors import ConfigError, DataError

HEIGHT, WIDTH = 24, 32


def number_map(dtype=np.uint8, factor=1, offset=0):
    """Three instances, the second in two parts, the third touching the first."""
    numbers = np.zeros((HEIGHT, WIDTH), dtype=dtype)
    numbers[2:8, 2:9] = offset + 1 * factor
    numbers[10:14, 3:6] = numbers[18:22, 20:30] = offset + 2 * factor
    numbers[2:8, 9:12] = offset + 3 * factor
    return numbers


def pair(root, image, mask, values):
    write_image(root / image, HEIGHT, WIDTH)
    write_mask(root / mask, values)
    return root


def colours(numbers):
    return np.stack([numbers * 10, numbers * 0, numbers * 40], axis=2).astype(np.uint8)


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("images/a.jpg", "masks/a.png"),
        ("PNGImages/a.png", "PedMasks/a_mask.png"),
        ("train/images/sub/a.jpg", "train/labels/sub/a.tif"),
        ("a_img.png", "a_masks.png"),
        ("img/a.jpg", "instances/a_label.png"),
    ],
)
def test_a_label_map_belongs_to_the_image_of_its_name(tmp_path, image, mask) -> None:
    root = pair(tmp_path / "in", image, mask, number_map())
    write_image(root / image.replace("a", "lonely"), HEIGHT, WIDTH)
    done = convert(root, tmp_path / "out", preview=False)
    assert done.format == "mask_png"
    found = only(tmp_path / "out")
    assert [name for name, _ in found] == ["object"] * 3
    for number, (_, instance) in enumerate(found, start=1):
        assert (instance == (number_map() == number)).all()
    assert done.notes.lines()[0].startswith("images without a mask left out: 1")
    assert "objects called 'object', for masks tell no class ('classes=[NAME]' names it): 3" in done.notes.lines()
    named = convert(root, tmp_path / "named", options=ReadOptions(classes=("cell",)), preview=False)
    assert not any("classes=" in line for line in named.notes.lines())


@pytest.mark.parametrize(
    "values",
    [number_map(), number_map(np.uint16, 300), number_map(np.int32, 70000), colours(number_map())],
    ids=["8 bits", "16 bits", "32 bits", "colours"],
)
def test_numbers_of_any_depth_and_colours(tmp_path, values) -> None:
    root = pair(tmp_path / "in", "images/a.jpg", "masks/a.tif", values)
    (image,) = read_mask_png(Source(root)).images
    assert [int((number_map() == n).sum()) for n in (1, 2, 3)] == [_area(i) for i in image.instances]


def _area(instance):
    from finemask.ops.rle import rle_area

    return rle_area(instance.rle)


@pytest.mark.parametrize("seed", range(3))
def test_masks_of_numbers_against_a_loop(seed) -> None:
    numbers = np.random.default_rng(seed).integers(0, 5, (9, 13)) * 1001
    found = label_map_rles(numbers)
    from finemask.ops.rle import rle_to_mask

    assert sorted(found) == [1001, 2002, 3003, 4004]
    assert all((rle_to_mask(rle) == (numbers == number)).all() for number, rle in found.items())


def test_one_file_an_instance_beside_its_image(tmp_path) -> None:
    root = tmp_path / "in"
    for name in ("x1", "x2"):
        write_image(root / f"stage1_train/{name}/images/{name}.png", HEIGHT, WIDTH)
        for number in (1, 2, 3):
            write_mask(root / f"stage1_train/{name}/masks/{number}f0.png", (number_map() == number) * np.uint8(255))
    write_mask(root / "stage1_train/x2/masks/empty.png", np.zeros((HEIGHT, WIDTH), dtype=np.uint8))
    done = convert(root, tmp_path / "out", options=ReadOptions(classes=("nucleus",)), preview=False)
    found = read_back(tmp_path / "out")
    assert {len(instances) for instances in found.values()} == {3}
    for instances in found.values():
        assert all((mask == (number_map() == n)).all() for n, (_, mask, _, _) in enumerate(instances, start=1))
        assert {name for name, *_ in instances} == {"nucleus"}
    assert "empty masks left out: 1 (stage1_train/x2/masks/empty.png)" in done.notes.lines()


def test_one_file_an_instance_in_a_folder_named_after_the_image(tmp_path) -> None:
    write_image(tmp_path / "images/day 1/a.jpg", HEIGHT, WIDTH)
    write_image(tmp_path / "images/day 1/b.jpg", HEIGHT, WIDTH)
    for name in ("0001_cat", "0002_dog.crowd", "0003"):
        write_mask(tmp_path / f"masks/day 1/a/{name}.png", (number_map() == 1) * np.uint8(255))
    source = Source(tmp_path)
    (image,) = read_mask_png(source).images
    assert [(i.category, i.crowd) for i in image.instances] == [("cat", False), ("dog", True), ("object", False)]


def test_cityscapes(tmp_path) -> None:
    values = number_map(np.uint16, 1, 26000)  # cars 26001 to 26003
    values[15:17] = 24  # a group of persons
    values[0] = 7  # road
    root = tmp_path / "in"
    pair(root, "leftImg8bit/val/ulm/ulm_1_leftImg8bit.png", "gtFine/val/ulm/ulm_1_gtFine_instanceIds.png", values)
    write_mask(root / "gtFine/val/ulm/ulm_1_gtFine_labelIds.png", values.astype(np.uint8))
    write_mask(root / "gtFine/val/ulm/ulm_1_gtFine_color.png", colours(number_map()))
    done = convert(root, tmp_path / "out", preview=False)
    (instances,) = read_back(tmp_path / "out", "val").values()
    assert [(name, crowd) for name, _, crowd, _ in instances] == [("person", True), *[("car", False)] * 3]
    assert instances[0][1].sum() == (values == 24).sum()
    assert done.notes.lines()[0].startswith("regions without instances (background classes) left out: 1")
    assert "bicycle" in {category.name for category in done.dataset.categories}


@pytest.mark.parametrize(
    ("names", "options", "expected"),
    [
        ("car\npedestrian\n", {}, ["car", "pedestrian"]),
        (None, {"classes": ("c", "p")}, ["c", "p"]),
        (None, {}, ["class_1", "class_2"]),
        (None, {"mask_values": "instance"}, ["object", "object", "object"]),
    ],
)
def test_mots(tmp_path, names, options, expected) -> None:
    values = np.zeros((HEIGHT, WIDTH), dtype=np.uint16)
    values[1:4, 1:4], values[6:9, 6:9], values[20:] = 1005, 2001, 10000
    pair(tmp_path, "images/0001/000000.png", "instances/0001/000000.png", values)
    if names:
        (tmp_path / "instances/labels.txt").write_text(names)
    (image,) = read_mask_png(Source(tmp_path, ReadOptions(**options))).images
    assert [instance.category for instance in image.instances] == expected


def test_many_instances_are_no_classes(tmp_path) -> None:
    values = np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH) * 3
    pair(tmp_path, "images/a.jpg", "masks/a.png", values)
    (image,) = read_mask_png(Source(tmp_path)).images
    assert {instance.category for instance in image.instances} == {"object"}
    assert len(image.instances) == HEIGHT * WIDTH - 1


def test_errors_name_the_file(tmp_path) -> None:
    root = pair(tmp_path, "images/a.jpg", "masks/b.png", number_map())
    write_image(root / "images/c.jpg", HEIGHT, WIDTH)
    with pytest.raises(DataError, match="none of 2 images has a mask among 1 mask files"):
        read_mask_png(Source(root))
    with pytest.raises(DataError, match="no known format"):
        detect_format(Source(root))
    with pytest.raises(ConfigError, match="mask_values=odd"):
        read_mask_png(Source(root, ReadOptions(mask_values="odd")))
    write_mask(root / "masks/a.tif", number_map().astype(np.float32) + 0.5)
    with pytest.raises(DataError, match="fractions"):
        read_mask_png(Source(root))
    write_mask(root / "masks/a.tif", number_map().astype(np.float32))
    assert read_label_map(root / "masks/a.tif").max() == 3


def test_a_map_taken_for_one_instance_is_told(tmp_path) -> None:
    root = pair(tmp_path, "images/only.jpg", "masks/another name.png", number_map())
    source = Source(root)
    assert len(read_mask_png(source).images[0].instances) == 1
    assert source.notes.lines()[0].startswith("masks of one instance that hold several numbers, taken as one: 1")


def test_a_mask_of_another_size_leaves_the_image_out(tmp_path) -> None:
    root = pair(tmp_path, "images/a.jpg", "masks/a.png", number_map()[:-1])
    source = Source(root)
    assert read_mask_png(source).images == []
    assert "images/a.jpg is 32 × 24, not 32 × 23" in source.notes.lines()[0]
