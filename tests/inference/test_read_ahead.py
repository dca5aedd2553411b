"""Order, errors, bounds and ends of reading with threads, against reading without."""

import random
import threading
import time

import numpy as np
import pytest
from PIL import Image

from finemask.inference import read_ahead
from finemask.inference.read_ahead import batches, in_background, map_ahead, read_images
from finemask.inference.sources import Item, NamedImage, Unread
from finemask.ops.images.image_kinds import any_size


@pytest.fixture
def folder(tmp_path):
    """20 files, of which each fifth is damaged."""
    for number in range(20):
        path = tmp_path / f"{number}.png"
        if number % 5 == 3:
            path.write_bytes(b"junk")
        else:
            Image.fromarray(np.full((10, 10 + number, 3), number, np.uint8)).save(path)
    return tmp_path


def seen(answers) -> list[tuple]:
    return [
        (one.name, str(one.error)) if isinstance(one, Unread) else (one.name, one.image.shape, int(one.image.max()))
        for one in answers
    ]


@pytest.mark.parametrize("threads", [1, 2, 7, 40])
def test_threads_change_neither_order_nor_errors(folder, threads, monkeypatch):
    alone = seen(read_images(folder))
    assert len(alone) == 20
    assert [name for name, *_ in alone] == [f"{number}.png" for number in range(20)]
    read = Item.read
    monkeypatch.setattr(Item, "read", lambda self, *args: time.sleep(random.random() / 100) or read(self, *args))
    assert seen(read_images(folder, threads=threads)) == alone


@pytest.mark.parametrize("bound", [1000, 10**9])
def test_no_more_pixels_are_read_ahead_than_there_is_room_for(tmp_path, monkeypatch, bound):
    sides = [10, 10, 100, 10, 10, 10, 100, 100, 10, 10]  # 100 px and 10,000 px
    for number, side in enumerate(sides):
        Image.new("RGB", (side, side)).save(tmp_path / f"{number}.png")
    held, most, lock, read = [0], [0], threading.Lock(), Item.read

    def counted(self, *args):
        (image,) = read(self, *args)
        with lock:
            held[0] += image.image.shape[0] * image.image.shape[1]
            most[0] = max(most[0], held[0])
        yield image

    monkeypatch.setattr(Item, "read", counted)
    monkeypatch.setattr(read_ahead, "_AHEAD_PX", bound)
    for image in read_images(tmp_path, threads=4):
        time.sleep(0.02)  # the threads get as far as they may
        with lock:
            held[0] -= image.image.shape[0] * image.image.shape[1]
    assert held == [0]
    if bound == 1000:
        assert 10_000 <= most[0] <= 10_000 + bound  # a large one, which is waited for, and what fits beside it
    else:
        assert most[0] > 10_000 + 1000


def test_a_generator_is_asked_for_no_more_than_what_is_taken(folder):
    taken = []

    def paths():
        for number in (0, 1, 2, 4):
            taken.append(number)
            yield folder / f"{number}.png"

    images = read_images(paths(), threads=4)
    assert next(images).name == "0.png"
    assert taken == [0]


def test_who_stops_early_waits_for_nobody(folder, monkeypatch):
    monkeypatch.setattr(read_ahead, "_AHEAD_PX", 0)  # all but the first stand at the gate
    before = set(threading.enumerate())
    images = read_images(folder, threads=4)
    assert next(images).name == "0.png"
    images.close()
    assert not [one for one in set(threading.enumerate()) - before if one.name.startswith("ThreadPoolExecutor")]


def test_an_error_of_a_thread_comes_where_its_item_is():
    made = map_ahead(lambda number: 6 // (number - 3), range(6), threads=3, ahead=6)
    assert [next(made) for _ in range(3)] == [-2, -3, -6]
    with pytest.raises(ZeroDivisionError):
        next(made)


def test_in_the_background_so_many_are_made_ahead_and_the_maker_is_closed():
    made, closed, go_on = [], [], threading.Event()

    def numbers():
        try:
            for number in range(100):
                made.append(number)
                yield number
        finally:
            closed.append(True)

    items = in_background(numbers(), ahead=3)
    assert [next(items), next(items)] == [0, 1]
    go_on.wait(0.05)
    assert len(made) <= 2 + 3
    items.close()
    assert closed == [True]
    assert list(in_background(iter_of(range(5)), ahead=3)) == list(range(5))


def iter_of(numbers):
    yield from numbers


def test_large_images_come_in_smaller_batches(monkeypatch):
    monkeypatch.setattr(read_ahead, "_BATCH_PX", 100)
    images = [NamedImage(str(side), np.zeros((side, side, 3), np.uint8), None) for side in (3, 3, 3, 3, 9, 9, 11, 3)]
    found = [[int(image.name) for image in batch] for batch in batches(iter(images), 4)]
    assert found == [[3, 3, 3, 3], [9, 9], [11], [3]]


def test_threads_that_lift_pillows_limit_leave_it_as_it_was():
    limit = Image.MAX_IMAGE_PIXELS

    def lift():
        for _ in range(200):
            with any_size():
                time.sleep(0)

    threads = [threading.Thread(target=lift) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert limit == Image.MAX_IMAGE_PIXELS
