"""CVAT XML: shapes of a task, subsets, masks, groups, and tracks of a video."""

import numpy as np
import pytest
from convert_data import decode, read_back, write_image

from finemask.datatools.convert.conversion import convert
from finemask.datatools.convert.cvat_format import read_cvat
from finemask.datatools.convert.source_files import ReadOptions, Source
from finemask.errors import DataError

HEIGHT, WIDTH = 30, 40
META = "<meta><task><labels><label><name>cat</name></label><label><name>dog</name></label></labels></task></meta>"


def cvat(root, images):
    root.mkdir(parents=True, exist_ok=True)
    (root / "annotations.xml").write_text(f"<annotations><version>1.1</version>{META}{images}</annotations>")
    return root


def image(shapes, name="a.png", **more):
    extra = " ".join(f'{key}="{value}"' for key, value in more.items())
    return f'<image id="0" name="{name}" width="{WIDTH}" height="{HEIGHT}" {extra}>{shapes}</image>'


def row_runs(mask):
    """Runs along the rows, zeros first."""
    flat = mask.ravel()
    edges = np.flatnonzero(np.diff(flat.astype(int))) + 1
    runs = np.diff([0, *edges, flat.size]).tolist()
    return ", ".join(map(str, [0, *runs] if flat[0] else runs))


@pytest.fixture
def root(tmp_path):
    write_image(tmp_path / "in/images/a.png", HEIGHT, WIDTH)
    return tmp_path / "in"


def masks(root):
    image = read_cvat(Source(root)).images[0]
    return [
        (instance.category, decode(instance.mask_rle(HEIGHT, WIDTH), HEIGHT, WIDTH)) for instance in image.instances
    ]


def test_polygon_box_and_ellipse(root) -> None:
    shapes = '<polygon label="cat" points="2,3;12,3;12,9;2,9" z_order="0"></polygon>'
    shapes += '<box label="dog" xtl="20" ytl="5" xbr="26" ybr="8" z_order="0"></box>'
    shapes += '<ellipse label="dog" cx="20" cy="20" rx="8" ry="3" rotation="90" z_order="0"></ellipse>'
    cvat(root, image(shapes))
    (_, polygon), (_, box), (_, ellipse) = masks(root)
    assert polygon[3:9, 2:12].all()
    assert polygon.sum() == 60
    assert box[5:8, 20:26].all()
    assert box.sum() == 18
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    upright = ((x - 20) / 3) ** 2 + ((y - 20) / 8) ** 2 < 1
    assert (ellipse != upright).sum() <= 10
    dataset = read_cvat(Source(root))
    assert [instance.is_box for instance in dataset.images[0].instances] == [False, True, False]
    assert [(c.id, c.name) for c in dataset.categories] == [(1, "cat"), (2, "dog")]


@pytest.mark.parametrize("seed", range(4))
def test_masks_run_along_the_rows_of_their_box(root, seed) -> None:
    small = np.random.default_rng(seed).random((7, 9)) < 0.5
    mask = f'<mask label="cat" rle="{row_runs(small)}" left="5" top="11" width="9" height="7" z_order="0"></mask>'
    cvat(root, image(mask))
    ((_, found),) = masks(root)
    expected = np.zeros((HEIGHT, WIDTH), dtype=bool)
    expected[11:18, 5:14] = small
    assert (found == expected).all()


def test_shapes_of_a_group_are_one_object_and_lower_ones_come_first(root) -> None:
    part = '<polygon label="{}" points="{},1;{},1;{},5" z_order="{}" {}></polygon>'
    shapes = part.format("cat", 1, 6, 6, 2, 'group_id="7"') + part.format("dog", 1, 6, 6, 0, "")
    shapes += part.format("cat", 11, 16, 16, 2, 'group_id="7"') + part.format("cat", 21, 26, 26, 1, 'group_id="0"')
    cvat(root, image(shapes))
    found = [(i.category, len(i.polygons)) for i in read_cvat(Source(root)).images[0].instances]
    assert found == [("dog", 1), ("cat", 1), ("cat", 2)]


def test_what_is_no_area_is_counted(root) -> None:
    shapes = (
        '<points label="cat" points="1,2"/><polyline label="cat" points="1,2;3,4"/><polygon label="" points="1,2"/>'
    )
    shapes += (
        '<polygon label="cat" points="1,2;3,x"/><mask label="cat" rle="1,1" left="0" top="0" width="9" height="9"/>'
    )
    cvat(root, image(shapes))
    source = Source(root)
    assert read_cvat(source).images[0].instances == []
    assert [line.partition(": ")[2][0] for line in source.notes.lines()] == ["2", "1", "2"]


def test_subsets_are_splits_and_tell_images_of_one_name_apart(tmp_path) -> None:
    root = tmp_path / "in"
    polygon = '<polygon label="cat" points="1,1;9,1;9,9"/>'
    for seed, subset in enumerate(("Train", "Validation")):
        write_image(root / f"images/{subset}/a.png", HEIGHT, WIDTH, seed=seed)
    cvat(root, image(polygon, subset="Train") + image(polygon * 2, subset="Validation"))
    convert(root, tmp_path / "out", preview=False)
    assert {key: len(value) for key, value in read_back(tmp_path / "out", "train").items()} == {"Train/a": 1}
    assert {key: len(value) for key, value in read_back(tmp_path / "out", "val").items()} == {"Validation/a": 2}


SIZE = "<original_size><width>40</width><height>30</height></original_size>"
VIDEO = f"<meta><task>{SIZE}</task><source>t.mp4</source></meta>"


def video(root, tracks):
    root.mkdir(parents=True, exist_ok=True)
    (root / "annotations.xml").write_text(f"<annotations>{VIDEO}{tracks}</annotations>")
    return root


def track(frames, label="cat"):
    entry = '<polygon frame="{}" outside="{}" keyframe="1" points="{},1;{},1;{},9"></polygon>'
    shapes = "".join(entry.format(frame, outside, frame, frame + 8, frame + 8) for frame, outside in frames)
    return f'<track id="0" label="{label}">{shapes}</track>'


def test_tracks_give_an_object_on_every_frame_where_they_are_not_outside(tmp_path) -> None:
    for frame in range(4):
        write_image(tmp_path / f"images/frame_{frame:06d}.png", HEIGHT, WIDTH)
    source = Source(video(tmp_path, track([(0, 0), (1, 0), (2, 1)]) + track([(1, 0), (2, 1)], "dog")))
    dataset = read_cvat(source)
    assert [[i.category for i in image.instances] for image in dataset.images] == [["cat"], ["cat", "dog"], [], []]
    assert dataset.images[1].instances[0].polygons[0][0] == 1
    assert source.notes.lines() == []


def test_keyframes_alone_are_told(tmp_path) -> None:
    source = Source(video(tmp_path, track([(0, 0), (1, 0), (9, 1)])), ReadOptions(with_images=False))
    read_cvat(source)
    assert source.notes.lines()[0].startswith("tracks that list some frames only")


def test_a_video_without_frames_says_how_to_get_them(tmp_path) -> None:
    with pytest.raises(DataError, match=r"ffmpeg -i t\.mp4"):
        read_cvat(Source(video(tmp_path, track([(0, 0), (1, 1)]))))


def test_a_document_type_is_refused(root) -> None:
    (root / "annotations.xml").write_text('<!DOCTYPE a [<!ENTITY e "x">]><annotations>&e;</annotations>')
    with pytest.raises(DataError, match="document type"):
        read_cvat(Source(root))
