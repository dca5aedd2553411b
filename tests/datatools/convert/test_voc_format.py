"""Pascal VOC: palettes and their colours, the void rim, classes from either side, splits, boxes alone."""

import numpy as np
import pytest
from convert_data import only, read_back, write_image, write_mask
from PIL import Image

from finemask.datatools.convert.conversion import convert
from finemask.datatools.convert.mask_png_format import read_label_map
from finemask.datatools.convert.source_files import Source
from finemask.datatools.convert.voc_format import VOC_CLASSES, palette_index, read_voc


def voc_palette():
    """The palette as the VOC development kit defines it: bits of the index, dealt to red, green, blue in turn."""
    colours = []
    for index in range(256):
        red = green = blue = 0
        rest = index
        for place in range(7, -1, -1):
            red |= (rest & 1) << place
            green |= (rest >> 1 & 1) << place
            blue |= (rest >> 2 & 1) << place
            rest >>= 3
        colours.append((red, green, blue))
    return colours


def save_palette(path, numbers):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(numbers.astype(np.uint8), mode="P")
    image.putpalette([value for colour in voc_palette() for value in colour])
    image.save(path)


def save_colours(path, numbers):
    write_mask(path, np.array(voc_palette(), dtype=np.uint8)[numbers])


def xml(objects, name="a.jpg", size=(20, 30)):
    entries = "".join(
        f"<object><name>{label}</name><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax>"
        "</bndbox><part><name>head</name><bndbox><xmin>1</xmin></bndbox></part></object>"
        for label, x0, y0, x1, y1 in objects
    )
    height, width = size
    size_tag = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return f"<annotation><filename>{name}</filename>{size_tag}{entries}</annotation>"


@pytest.fixture
def numbers():
    """Two objects with a void rim on 20 × 30 px."""
    found = np.zeros((20, 30), dtype=np.int64)
    found[2:10, 3:12], found[3:9, 4:11] = 255, 1
    found[11:19, 10:28], found[12:18, 11:27] = 255, 2
    return found


@pytest.fixture
def voc(tmp_path, numbers):
    root = tmp_path / "VOC"
    write_image(root / "JPEGImages/a.jpg", 20, 30)
    (root / "Annotations").mkdir()
    (root / "Annotations/a.xml").write_text(xml([("dog", 4, 3, 12, 10), ("cat", 11, 12, 28, 19)]))
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    (root / "ImageSets/Segmentation/val.txt").write_text("a\n")
    (root / "ImageSets/Segmentation/trainval.txt").write_text("a\nb\n")
    save_palette(root / "SegmentationObject/a.png", numbers)
    return root


def test_the_palette_is_inverted_by_its_definition() -> None:
    codes = np.array([(r << 16) + (g << 8) + b for r, g, b in voc_palette()], dtype=np.int64)
    assert palette_index(codes).tolist() == list(range(256))


def test_palette_pictures_give_indexes(tmp_path, numbers) -> None:
    save_palette(tmp_path / "p.png", numbers)
    assert (read_label_map(tmp_path / "p.png") == numbers).all()


@pytest.mark.parametrize("save", [save_palette, save_colours])
def test_numbers_are_objects_of_the_xml_and_void_belongs_to_none(voc, numbers, tmp_path, save) -> None:
    save(voc / "SegmentationObject/a.png", numbers)
    done = convert(voc, tmp_path / "out", preview=False)
    assert done.format == "voc"
    (dog, dog_mask), (cat, cat_mask) = only(tmp_path / "out", "val")
    assert (dog, cat) == ("dog", "cat")
    assert (dog_mask == (numbers == 1)).all()
    assert (cat_mask == (numbers == 2)).all()
    assert done.notes.lines() == ["images listed in ImageSets without an annotation left out: 1 (b)"]


@pytest.mark.parametrize("save", [save_palette, save_colours])
def test_the_class_picture_decides_over_the_xml(voc, numbers, save) -> None:
    classes = np.select([numbers == 1, numbers == 2], [VOC_CLASSES.index("sheep") + 1, VOC_CLASSES.index("cat") + 1])
    save(voc / "SegmentationClass/a.png", classes)
    source = Source(voc)
    dataset = read_voc(source)
    assert [instance.category for instance in dataset.images[0].instances] == ["sheep", "cat"]
    assert "objects whose class differs in SegmentationClass (taken) and XML: 1 (a)" in source.notes.lines()


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("class_names.txt", "__ignore__\n_background_\nfig\nnut\n"),
        ("labelmap.txt", "# label:color_rgb:parts:actions\nbackground:0,0,0::\nnut:0,128,0::\nfig:128,0,0::\n"),
    ],
)
def test_own_classes_come_from_labelme_and_cvat_lists(voc, numbers, file, text) -> None:
    (voc / "Annotations/a.xml").unlink()
    (voc / file).write_text(text)
    save_colours(voc / "SegmentationClass/a.png", np.where(numbers == 255, 0, numbers))
    dataset = read_voc(Source(voc))
    assert [instance.category for instance in dataset.images[0].instances] == ["fig", "nut"]
    assert {category.name for category in dataset.categories} == {"fig", "nut"}


def test_objects_nobody_names_are_left_out(voc) -> None:
    (voc / "Annotations/a.xml").write_text(xml([("own class", 4, 3, 12, 10)]))
    source = Source(voc)
    assert [instance.category for instance in read_voc(source).images[0].instances] == ["own class"]
    assert "objects left out whose class nothing tells: 1 (a, object 2)" in source.notes.lines()


def test_objects_without_pixels_stay_boxes(voc, numbers) -> None:
    save_palette(voc / "SegmentationObject/a.png", np.where(numbers == 2, 0, numbers))
    masked, box = read_voc(Source(voc)).images[0].instances
    assert masked.rle is not None
    assert (box.category, box.is_box) == ("cat", True)


def test_boxes_alone_count_pixels_from_one_and_splits_come_from_main(tmp_path) -> None:
    root = tmp_path / "VOC"
    for stem in ("a", "b"):
        write_image(root / f"JPEGImages/{stem}.jpg", 20, 30)
        (root / "Annotations").mkdir(exist_ok=True)
        (root / f"Annotations/{stem}.xml").write_text(xml([("cat", 1, 1, 30, 20)], f"{stem}.jpg"))
    (root / "ImageSets/Main").mkdir(parents=True)
    (root / "ImageSets/Main/train.txt").write_text("a\n")
    (root / "ImageSets/Main/test.txt").write_text("b\n")
    (root / "ImageSets/Main/cat_train.txt").write_text("b 1\n")
    done = convert(root, tmp_path / "out", preview=False)
    assert done.num_boxes == 2
    ((_, mask, _, annotation),) = read_back(tmp_path / "out", "train")["a"]
    assert mask is None
    assert annotation["bbox"] == [0, 0, 30, 20]
    assert list(read_back(tmp_path / "out", "test")) == ["b"]
