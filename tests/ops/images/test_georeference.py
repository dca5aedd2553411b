import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from finemask.ops.images.georeference import Georeference, read_georeference

SCALE, TIEPOINTS, TRANSFORMATION, KEYS = 33550, 33922, 34264, 34735


def geotiff(path, doubles, keys=(), size=(40, 30), orientation=1):
    """Written by Pillow: pages of the tags given; ``keys`` are pairs of a GeoKey and its number."""
    tags = ImageFileDirectory_v2()
    for tag, values in doubles.items():
        tags.tagtype[tag] = 12
        tags[tag] = values
    tags.tagtype[KEYS] = 3
    tags[KEYS] = (1, 1, 0, len(keys), *(number for key, value in keys for number in (key, 0, 1, value)))
    tags[274] = orientation
    Image.new("L", size).save(path, tiffinfo=tags)
    return path


def test_scale_and_tiepoint(tmp_path):
    """The example of the GeoTIFF standard's kind: 0.5 m pixels, pixel (10, 20) of known place, UTM 33 N."""
    tie = (10.0, 20.0, 0.0, 500000.0, 4600000.0, 0.0)
    path = geotiff(tmp_path / "a.tif", {SCALE: (0.5, 0.5, 0.0), TIEPOINTS: tie}, [(1024, 1), (1025, 1), (3072, 32633)])
    found = read_georeference(path, (30, 40))
    assert found.epsg == 32633
    assert found.pixel_size == 0.5
    assert found.to_world(np.array([[10.0, 20.0], [0.0, 0.0], [12.0, 21.0]])).tolist() == [
        [500000.0, 4600000.0],
        [499995.0, 4600010.0],
        [500001.0, 4599999.5],
    ]


def test_points_are_the_middles_of_pixels(tmp_path):
    tie = (0.0, 0.0, 0.0, 100.0, 50.0, 0.0)
    path = geotiff(tmp_path / "a.tif", {SCALE: (2.0, 2.0, 0.0), TIEPOINTS: tie}, [(1025, 2), (2048, 4326)])
    found = read_georeference(path, (30, 40))
    assert found == Georeference((2.0, 0.0, 99.0, 0.0, -2.0, 51.0), 4326)
    assert found.to_world(np.array([[0.5, 0.5]])).tolist() == [[100.0, 50.0]]


def test_a_turned_map_by_its_matrix(tmp_path):
    matrix = (0.0, -3.0, 0.0, 7.0, 3.0, 0.0, 0.0, 11.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
    found = read_georeference(geotiff(tmp_path / "a.tif", {TRANSFORMATION: matrix}, [(3072, 32767)]), (30, 40))
    assert found == Georeference((0.0, -3.0, 7.0, 3.0, 0.0, 11.0), None)  # 32767 is no number of a system
    assert found.to_world(np.array([[2.0, 1.0]])).tolist() == [[4.0, 17.0]]
    assert found.pixel_size == 3.0


@pytest.mark.parametrize(
    ("image", "world"), [("a.tif", "a.tfw"), ("a.jpg", "a.jgw"), ("b.png", "b.pngw"), ("c.bmp", "c.WLD")]
)
def test_a_world_file_beside_the_picture(tmp_path, image, world):
    """Esri's order: x by column, y by column, x by row, y by row, then the middle of the first pixel."""
    Image.new("L", (40, 30)).save(tmp_path / image)
    (tmp_path / world).write_text("4\r\n1\r\n2\r\n-4\r\n1000\r\n2000\r\n")
    found = read_georeference(tmp_path / image, (30, 40))
    assert found.epsg is None
    assert found.to_world(np.array([[0.5, 0.5], [1.5, 0.5], [0.5, 1.5]])).tolist() == [
        [1000.0, 2000.0],
        [1004.0, 2001.0],
        [1002.0, 1996.0],
    ]


def test_what_says_nothing_or_nonsense(tmp_path, caplog):
    path = tmp_path / "a.png"
    Image.new("L", (40, 30)).save(path)
    assert read_georeference(path, (30, 40)) is None
    path.with_suffix(".pgw").write_text("4\n1\n")
    assert read_georeference(path, (30, 40)) is None
    assert "not a world file" in caplog.text
    tie = (0.0, 0.0, 0.0, 100.0, 50.0, 0.0)
    turned = geotiff(tmp_path / "t.tif", {SCALE: (2.0, 2.0, 0.0), TIEPOINTS: tie}, orientation=6)
    assert read_georeference(turned, (30, 40)) is None
    assert "stored turned" in caplog.text
    assert read_georeference(geotiff(tmp_path / "n.tif", {SCALE: (2.0, 2.0, 0.0)}), (30, 40)) is None  # no tiepoint
    (tmp_path / "e.tif").touch()
    assert read_georeference(tmp_path / "e.tif", (30, 40)) is None


@pytest.mark.parametrize(
    ("keys", "pixel_m"),
    [
        ([(3072, 32633), (3076, 9001)], 0.5),
        ([(3072, 2225), (3076, 9003)], 0.5 * 1200 / 3937),
        ([(3072, 32767), (3076, 9002)], 0.5 * 0.3048),
        ([(3072, 32633)], None),  # it does not say
        ([(3072, 32633), (3076, 9036)], None),  # kilometres, which we do not know
        ([(2048, 4326), (3076, 9001)], None),  # degrees
    ],
)
def test_the_side_of_a_pixel_in_metres(tmp_path, keys, pixel_m):
    doubles = {SCALE: (0.5, 0.5, 0.0), TIEPOINTS: (0.0,) * 6}
    found = read_georeference(geotiff(tmp_path / "a.tif", doubles, keys), (30, 40))
    assert found.pixel_m == (None if pixel_m is None else pytest.approx(pixel_m))
