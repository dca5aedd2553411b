"""Perceptual hashes: what they survive, what they tell apart, and grouping them against a brute-force reference."""

import io
import time
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from finemask.datatools.image_facts import Fault, facts_of_file, hash_images
from finemask.datatools.image_hash import (
    MAX_DISTANCE,
    NO_HASH,
    clusters,
    hash_pixels,
)
from finemask.ops.images.decode import decode_image


@cache
def scene(seed, height=120, width=160):
    """A picture of soft blobs on a gradient."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    image = np.zeros((height, width, 3))
    for channel in range(3):
        image[..., channel] = 60 + 40 * rng.random() * x / width
    for _ in range(12):
        cy, cx, r = rng.random() * height, rng.random() * width, 5 + 20 * rng.random()
        image += 150 * (rng.random(3) - 0.3) * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / r**2)[..., None]
    return Image.fromarray(np.clip(image, 0, 255).astype(np.uint8))


def pixels(image):
    return np.asarray(image.convert("RGB"))


def hash_image(path):
    return hash_images([path])[0].item()


def apart(one, other):
    return (hash_pixels(pixels(one)) ^ hash_pixels(pixels(other))).bit_count()


def compressed(image, quality):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


def test_bits_are_signs_of_low_frequencies_written_out_by_hand():
    image = pixels(scene(3, 64, 96))
    grey = np.rint(image @ np.array([0.299, 0.587, 0.114]))
    small = grey.reshape(32, 2, 32, 3).mean(axis=(1, 3))
    difference = small - np.median(small)
    difference = np.sign(difference) * np.log(1 + np.abs(difference))
    k, n = np.arange(1, 9)[:, None], np.arange(32)
    cosines = np.cos(np.pi * k * (2 * n + 1) / 64)  # scaling does not change a sign
    bits = (cosines @ difference @ cosines.T > 0).reshape(-1)
    expected = int("".join("1" if bit else "0" for bit in bits), 2)
    # Rounding to grey may differ by one level here and there, which can only turn a bit that is nearly 0.
    assert (expected ^ hash_pixels(image)).bit_count() <= 1


CHANGES = {
    "jpeg": lambda image: compressed(image, 40),
    "half": lambda image: image.resize((image.width // 2, image.height // 2)),
    "double": lambda image: image.resize((image.width * 2, image.height * 2)),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.15),
    "less contrast": lambda image: ImageEnhance.Contrast(image).enhance(0.8),
    "grey": lambda image: image.convert("L"),
    "trimmed": lambda image: image.crop((1, 1, image.width - 1, image.height - 1)),
    "other shape": lambda image: image.resize((100, 100)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_copies_stay_near(change):
    distances = [apart(scene(seed), CHANGES[change](scene(seed))) for seed in range(12)]
    assert np.median(distances) <= 4
    assert sum(distance <= MAX_DISTANCE for distance in distances) >= 11


def test_different_pictures_are_far_apart():
    hashes = [hash_pixels(pixels(scene(seed))) for seed in range(40)]
    distances = [(a ^ b).bit_count() for k, a in enumerate(hashes) for b in hashes[:k]]
    assert min(distances) > MAX_DISTANCE + 3
    assert 28 < np.mean(distances) < 36


def test_one_bright_corner_does_not_make_dark_pictures_alike():
    rng = np.random.default_rng(0)
    found = []
    for _ in range(30):
        field = 8 + 6 * rng.random((8, 8))  # a faint, uneven background
        dark = np.asarray(Image.fromarray(field.astype(np.float32)).resize((128, 128), Image.Resampling.BICUBIC))
        dark = np.repeat(np.rint(dark)[..., None], 3, axis=2).astype(np.uint8)
        dark[:14, :16] = 240
        found.append(hash_pixels(dark))
    assert clusters(np.array(found, dtype=np.uint64)) == []


@pytest.mark.parametrize("level", [0, 17, 255])
def test_pictures_without_structure_have_no_hash(level):
    assert hash_pixels(np.full((50, 70, 3), level, dtype=np.uint8)) == NO_HASH


def test_tiny_pictures_have_a_hash():
    ramp = np.repeat(np.arange(12, dtype=np.uint8).reshape(3, 4, 1) * 20, 3, axis=2)
    assert hash_pixels(ramp) != NO_HASH


def test_files_are_hashed_upright_whatever_their_format(tmp_path):
    image = scene(5)
    upright = hash_pixels(pixels(image))
    image.save(tmp_path / "a.png")
    assert hash_image(tmp_path / "a.png") == upright
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "b.png", exif=exif)
    assert hash_image(tmp_path / "b.png") == upright
    grey = np.asarray(image.convert("L")).astype(np.uint16) * 257
    Image.fromarray(grey).save(tmp_path / "c.png")
    # 16 bits are stretched over the range of their own values, whatever that is
    assert (hash_image(tmp_path / "c.png") ^ upright).bit_count() <= 2


def test_a_large_jpeg_decoded_at_a_fraction_keeps_its_hash(tmp_path):
    for seed in range(3):
        scene(seed).resize((1280, 960)).save(tmp_path / "large.jpg", quality=90)
        whole = hash_pixels(decode_image(tmp_path / "large.jpg"))
        assert (hash_image(tmp_path / "large.jpg") ^ whole).bit_count() <= 2


def test_files_that_cannot_be_read(tmp_path):
    scene(1).save(tmp_path / "good.png")
    (tmp_path / "empty.png").write_bytes(b"")
    content = (tmp_path / "good.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(content[: len(content) // 2])
    faults = {
        "empty.png": (Fault.EMPTY, "0 bytes"),
        "cut.png": (Fault.DAMAGED, "cannot be read"),
        "none.png": (Fault.MISSING, "No such file"),
    }
    for name, (fault, words) in faults.items():
        facts = facts_of_file(tmp_path / name)
        assert facts.fault is fault
        assert words in facts.reason
    seen = []
    paths = [tmp_path / name for name in ("good.png", "empty.png", "cut.png", "none.png")]
    hashes = hash_images(paths, lambda: seen.append(1))
    assert hashes.dtype == np.uint64
    assert hashes.tolist() == [hash_image(paths[0]), NO_HASH, NO_HASH, NO_HASH]
    assert len(seen) == 4


def brute_force(hashes, max_distance):
    """Groups by following every link between every pair."""
    n = len(hashes)
    links = {
        i: {j for j in range(n) if hashes[i] and hashes[j] and (hashes[i] ^ hashes[j]).bit_count() <= max_distance}
        for i in range(n)
    }
    groups, seen = [], set()
    for start in range(n):
        if start in seen:
            continue
        group, todo = set(), [start]
        while todo:
            i = todo.pop()
            if i not in group:
                group.add(i)
                todo.extend(links[i])
        seen |= group
        if len(group) > 1:
            groups.append(sorted(group))
    return groups


@st.composite
def families(draw):
    """Hashes of which many are a few flipped bits away from one another; some are 0."""
    parents = draw(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=4))
    flips = st.lists(st.integers(0, 63), max_size=9)
    children = draw(st.lists(st.tuples(st.sampled_from([*parents, 0]), flips), max_size=14))
    hashes = list(parents)
    for value, bits in children:
        for bit in bits:
            value ^= 1 << bit
        hashes.append(value)
    return hashes


@settings(max_examples=100, deadline=None)
@given(families(), st.integers(0, 15))
def test_clusters_are_those_of_a_brute_force_search(hashes, max_distance):
    found = clusters(np.array(hashes, dtype=np.uint64), max_distance)
    assert found == brute_force(hashes, max_distance)


def test_clusters_of_nothing():
    assert clusters(np.zeros(0, dtype=np.uint64)) == []
    assert clusters(np.zeros(5, dtype=np.uint64)) == []  # what has no hash is like nothing
    with pytest.raises(ValueError, match="0 to 15"):
        clusters(np.ones(3, dtype=np.uint64), 16)


def test_fifty_thousand_hashes_in_seconds():
    rng = np.random.default_rng(0)
    hashes = rng.integers(1, 2**63, 50_000, dtype=np.uint64) * np.uint64(2)
    expected = []
    for k in range(100):  # a copy with up to MAX_DISTANCE flipped bits
        flipped = rng.choice(64, k % (MAX_DISTANCE + 1), replace=False)
        mask = sum(1 << int(bit) for bit in flipped)
        hashes[25_000 + k] = hashes[k] ^ np.uint64(mask)
        expected.append([k, 25_000 + k])
    start = time.process_time()
    assert clusters(hashes) == expected
    assert time.process_time() - start < 20


def test_nuclei_do_not_collide_and_their_copies_are_found(shared_dir, tmp_path):
    paths = sorted((shared_dir / "datasets" / "nuclei" / "images").iterdir())[::6]
    copies = []
    for path in paths[::8]:
        image = Image.fromarray(decode_image(path))
        copies.append(tmp_path / f"{path.stem}.jpg")
        image.save(copies[-1], quality=75)
    groups = clusters(hash_images([*paths, *copies]))
    assert all(len(group) == 2 for group in groups)
    assert {tuple(group) for group in groups} <= {(8 * k, len(paths) + k) for k in range(len(copies))}
    assert len(groups) >= 0.8 * len(copies)


@pytest.mark.parametrize("name", ["coco_ccby33", "fruits_nuts"])
def test_photos_do_not_collide(shared_dir, name):
    assert clusters(hash_images(sorted((shared_dir / "datasets" / name / "images").iterdir()))) == []
