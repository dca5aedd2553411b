"""Nothing outside the source's folder is ever read, and images are found where tools put them."""

import pytest
from convert_data import write_image

from finemask.datatools.convert.records import Notes
from finemask.datatools.convert.source_files import ReadOptions, Source, folder_of, read_xml, split_of
from finemask.errors import DataError


@pytest.fixture
def root(tmp_path):
    for name in ("images/train/a.jpg", "images/val/a.jpg", "images/val/b.jpg", "c.jpg"):
        write_image(tmp_path / "set" / name, 4, 6)
    (tmp_path / "set" / "annotations").mkdir()
    write_image(tmp_path / "outside.jpg", 4, 6)
    return tmp_path / "set"


@pytest.mark.parametrize(
    "name", ["../outside.jpg", "images/../../outside.jpg", "/etc/passwd", "C:\\x.jpg", "..\\outside.jpg", "a\0b"]
)
def test_names_that_lead_out_are_refused(root, name) -> None:
    with pytest.raises(DataError, match="leads out of the source"):
        Source(root).find_image(name)


def test_links_that_lead_out_are_refused(root) -> None:
    (root / "link.jpg").symlink_to(root.parent / "outside.jpg")
    (root / "folder").symlink_to(root.parent, target_is_directory=True)
    source = Source(root)
    with pytest.raises(DataError, match="leads out"):
        source.find_image("link.jpg")
    with pytest.raises(DataError, match="leads out"):
        source.inside("folder/outside.jpg")
    assert "folder/outside.jpg" not in source.files


def test_a_name_may_go_up_as_long_as_it_stays_inside(root) -> None:
    found = Source(root).find_image("../images/val/b.jpg", near="annotations")
    assert found == root / "images/val/b.jpg"


def test_images_are_found_by_what_is_known_of_their_place(root) -> None:
    source = Source(root)
    assert source.find_image("b.jpg") == root / "images/val/b.jpg"
    assert source.find_image("val/a.jpg") == root / "images/val/a.jpg"
    assert source.find_image("a.jpg", split="train") == root / "images/train/a.jpg"
    assert source.find_image("a.jpg", near="images/val") == root / "images/val/a.jpg"
    assert source.find_image("a.jpg") is None  # two, and nothing says which
    assert source.find_image("none.jpg") is None


def test_images_may_lie_elsewhere_if_the_user_says_so(root) -> None:
    source = Source(root / "annotations", ReadOptions(image_root=root.parent))
    assert source.find_image("../../outside.jpg") == root.parent / "outside.jpg"
    assert source.name_of(root.parent / "outside.jpg") == "outside.jpg"
    with pytest.raises(DataError, match="no such folder"):
        Source(root, ReadOptions(image_root=root / "nowhere"))


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("images/train2017/1.jpg", "train"),
        ("valid/images/1.jpg", "val"),
        ("stage1_test/1.jpg", "test"),
        ("Validation/x/1.jpg", "val"),
        ("trains/1.jpg", None),
        ("images/train.jpg", None),
    ],
)
def test_splits_are_words_of_folders(name, split) -> None:
    assert split_of(name) == split


def test_the_size_may_be_that_before_or_after_the_exif_rotation(tmp_path) -> None:
    path = write_image(tmp_path / "turned.jpg", 4, 6, orientation=6)
    notes = Notes()
    source = Source(tmp_path, notes=notes)
    assert source.size_of(path) == (6, 4)
    assert source.size_of(path, (6, 4)) == (6, 4)
    assert source.size_of(path, (4, 6)) == (4, 6)
    assert source.size_of(path, (5, 6)) is None
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    assert source.size_of(tmp_path / "broken.jpg") is None
    assert [line.split(":")[0] for line in notes.lines()] == [
        "images left out whose size is not what their annotations say",
        "images that cannot be read left out",
    ]


def test_an_annotation_file_belongs_to_the_folder_above_annotations(root) -> None:
    assert folder_of(root / "annotations" / "x.json") == root
    assert folder_of(root / "x.json") == root
    with pytest.raises(DataError, match="no such file"):
        Source(root / "missing.json")


@pytest.mark.parametrize(
    "text",
    [
        '<!DOCTYPE a [<!ENTITY x "xx">]><annotation>&x;</annotation>',
        '<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>',
        '<!DOCTYPE a [<!ENTITY % p SYSTEM "http://localhost/x"> %p;]><annotation/>',
    ],
)
def test_xml_with_a_document_type_is_refused(tmp_path, text) -> None:
    path = tmp_path / "a.xml"
    path.write_text(text)
    with pytest.raises(DataError, match="document type"):
        read_xml(path, "an annotation file")


def test_broken_xml_is_named(tmp_path) -> None:
    path = tmp_path / "a.xml"
    path.write_text("<annotation><object></annotation>")
    with pytest.raises(DataError, match=r"broken XML .*mismatched tag"):
        read_xml(path, "an annotation file")


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("A%20b.jpg", "a b.jpg"),
        ("u\u0308.jpg", "\u00fc.jpg"),
        ("two.tif", "two.png"),
        ("in\\X.JPG", "in/x.jpg"),
    ],
)
def test_names_of_other_systems_are_found_and_counted(tmp_path, name, file):
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).touch()
    source = Source(tmp_path)
    assert source.find_image(name) == tmp_path / file
    assert f"{name} is {file}" in source.notes.lines()[0]
