"""Images that a model sees too small: which are reported, which are not, and in which words."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inference_data import CATEGORIES, colour_header, rectangles

from finemask.inference.instances import Instances
from finemask.inference.predictor import Predictor
from finemask.inference.scale import ScaleWatch, find_shrunk
from finemask.inference.tta import AugmentedMaskRCNN, View
from finemask.model.build import build_model
from finemask.model_header import TrainingSizes
from finemask.types import Preprocessing

USUAL = Preprocessing((800,), 1333, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
LIGHT = Preprocessing((320,), 512, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
# Measured on a public set of nuclei and on photographs of COCO.
NUCLEI = TrainingSizes((256, 320, 1024), (0.77, 3.12, 3.12), (7, 20, 50), (11.8, 43.6, 110.9))
PHOTOS = TrainingSizes((640, 640, 640), (1.33, 1.67, 2.56), (22, 109, 477), (41, 181.8, 808.1))
PHOTOS_LIGHT = TrainingSizes((640, 640, 640), (0.53, 0.67, 1.02), (22, 109, 477), (16.4, 72.7, 323.2))
CAMERAS = [(480, 640), (1080, 1920), (3000, 4000), (4032, 3024), (4000, 6000)]  # up to 24 megapixels


def instances(size_hw, count=0, side=10.0, name="picture.png"):
    corner = np.arange(count, dtype=np.float32)[:, None]
    return Instances(
        boxes=np.hstack([corner, corner, corner + side, corner + side]).astype(np.float32),
        labels=np.ones(count, dtype=np.int64),
        scores=np.full(count, 0.9, dtype=np.float32),
        rles=[{"size": list(size_hw), "counts": ""}] * count,
        image_size_hw=size_hw,
        categories=CATEGORIES,
        name=name,
    )


def test_a_mosaic_of_nuclei_is_reported_in_words_with_the_remedy():
    watch = ScaleWatch(USUAL, NUCLEI)
    watch.add(instances((6000, 6000), 33, 160, "mosaic.png"))  # blobs of a trained size; the nuclei are 2.7 px
    text = watch.in_words()
    for words in ("mosaic.png (6,000 × 6,000 px)", "13.3%", "2.7 px", "12 to 111 px", "256 to 1,024 px", "pieces"):
        assert words in text


@pytest.mark.parametrize(("preprocessing", "sizes"), [(USUAL, PHOTOS), (LIGHT, PHOTOS_LIGHT)])
@pytest.mark.parametrize("size_hw", CAMERAS)
def test_photographs_of_larger_cameras_are_not(preprocessing, sizes, size_hw):
    for count in (0, 20):  # framed as in training, objects grow with the picture
        side = sizes.objects_seen_px[1] / preprocessing.scale(size_hw)
        assert find_shrunk(instances(size_hw, count, side), preprocessing, sizes) is None


def test_what_was_found_tells_where_the_size_alone_does_not():
    size_hw = (3000, 4000)  # a nucleus of 20 px is 5.3 px for the model, more than a cell
    assert find_shrunk(instances(size_hw, 0), USUAL, NUCLEI) is None
    assert find_shrunk(instances(size_hw, 9, 30), USUAL, NUCLEI) is None  # too few to say
    assert find_shrunk(instances(size_hw, 10, 60), USUAL, NUCLEI) is None  # 16 px
    found = find_shrunk(instances(size_hw, 10, 30), USUAL, NUCLEI)
    assert found.found_px == pytest.approx(8)
    watch = ScaleWatch(USUAL, NUCLEI)
    watch.add(instances(size_hw, 10, 30))
    assert "What was found there measures 8.0 px" in watch.in_words()


@given(
    height=st.integers(1, 5000), width=st.integers(1, 5000), side=st.floats(0.5, 5000), count=st.sampled_from([0, 10])
)
def test_an_image_of_the_training_set_is_never_reported(height, width, side, count):
    scale = LIGHT.scale((height, width))
    sizes = TrainingSizes((1, 1, 9999), (scale, scale + 1, scale + 2), (0.1, 0.2, 9), (1000, 2000, 3000))
    assert find_shrunk(instances((height, width), count, side), LIGHT, sizes) is None


def test_many_images_are_one_sentence_about_the_worst():
    watch = ScaleWatch(USUAL, NUCLEI)
    for number in range(1200):
        watch.add(instances((6000 + number, 6000 + number), name=f"{number}.png"))
    watch.add(instances((256, 256)))
    text = watch.in_words()
    assert "1,200 images are shrunk far" in text
    assert "1199.png (7,199 × 7,199 px)" in text
    assert "0.png (6,000" not in text


def test_a_file_that_knows_no_sizes_says_nothing():
    watch = ScaleWatch(USUAL, None)
    watch.add(instances((60000, 60000)))
    assert watch.in_words() is None


# The colour model's images are brought to 128 px: those of 40 × 60 px by 3.2, one of 1000 px by 0.128.
SMALL = TrainingSizes((60, 60, 60), (3.2, 3.2, 3.2), (5, 10, 20), (16, 32, 64))


def test_prediction_in_python_says_it_once_for_images_of_a_kind(predictor, caplog):
    predictor.header = colour_header()
    large = rectangles(1000, 1000)
    predictor.predict(large)
    predictor.header = colour_header(training_sizes=SMALL)
    predictor.predict(rectangles())
    assert caplog.text == ""
    predictor.predict([large, rectangles(), large, large])
    for _ in range(3):
        predictor.predict(large)
    assert "3 images are shrunk far for the model: image (1,000 × 1,000 px) to 12.8%" in caplog.text
    assert len(caplog.records) == 1
    predictor.predict(rectangles(2000, 2100))
    assert "image (2,100 × 2,000 px) is shrunk far for the model: to 6.4%" in caplog.text


def test_larger_views_count():
    from model_cases import model_config

    model = build_model(model_config("tiny"), num_classes=4)
    header = colour_header(preprocessing=model.preprocessing, training_sizes=SMALL)
    augmented = AugmentedMaskRCNN(model, [View(128), View(1600), View(128, True)])
    for seen, expected in ((model, 1), (augmented, 0)):
        watch = Predictor(seen, header).watch_scale()
        watch.add(instances((1000, 1000)))
        assert watch.count == expected
