"""Images that processes share: decoded once, whole, and only as many as fit."""

from __future__ import annotations

import multiprocessing
import os
import signal

import numpy as np
import pytest

from experiments.datasets.shared_images import SharedImages
from merge.errors import DataError

NAMES = tuple(f"image{number}" for number in range(12))


def decoded(name: str):
    rng = np.random.default_rng(len(name) + int(name.removeprefix("image")))
    height, width = rng.integers(3, 9, 2)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return image, rng.integers(0, 21, (height, width), dtype=np.uint8)


class Reader:
    """Counts how often each image is decoded, over all processes."""

    def __init__(self) -> None:
        self.counts = multiprocessing.get_context("fork").Array("i", len(NAMES))

    def __call__(self, name: str):
        with self.counts.get_lock():
            self.counts[NAMES.index(name)] += 1
        return decoded(name)


def assert_all_right(images: SharedImages) -> None:
    for name in NAMES:
        for found, expected in zip(images.read(name), decoded(name), strict=True):
            np.testing.assert_array_equal(found, expected)


def in_processes(number: int, work) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=work) for _ in range(number)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * number


def test_what_one_process_reads_all_others_have():
    reader = Reader()
    images = SharedImages(NAMES, reader, max_bytes=2**16)
    in_processes(1, lambda: assert_all_right(images))
    in_processes(3, lambda: assert_all_right(images))
    assert_all_right(images)
    assert list(reader.counts) == [1] * len(NAMES)


def test_processes_that_read_at_once_see_whole_images_alone():
    images = SharedImages(NAMES, Reader(), max_bytes=2**16)
    in_processes(4, lambda: [assert_all_right(images) for _ in range(20)])


def test_what_does_not_fit_is_read_each_time():
    reader = Reader()
    first = sum(part.size for part in decoded(NAMES[0]))
    images = SharedImages(NAMES, reader, max_bytes=first)
    for _ in range(3):
        assert_all_right(images)
    assert list(reader.counts) == [1, *[3] * (len(NAMES) - 1)]


def test_a_shared_image_cannot_be_changed_by_who_reads_it():
    images = SharedImages(NAMES, Reader(), max_bytes=2**16)
    images.read(NAMES[0])
    kept, _ = images.read(NAMES[0])
    with pytest.raises(ValueError, match="read-only"):
        kept[0] = 0


def test_an_unreadable_image_raises_its_error_each_time():
    def read(name: str):
        raise DataError(f"photograph {name} is missing")

    images = SharedImages(NAMES, read, max_bytes=2**16)
    for _ in range(2):
        with pytest.raises(DataError, match="image3 is missing"):
            images.read("image3")


def test_a_process_that_was_killed_with_the_lock_does_not_stop_the_others(monkeypatch):
    monkeypatch.setattr("experiments.datasets.shared_images._LOCK_TIMEOUT_S", 0.01)
    images = SharedImages(NAMES, Reader(), max_bytes=2**16)

    def die() -> None:
        images._lock.acquire()
        os.kill(os.getpid(), signal.SIGKILL)

    process = multiprocessing.get_context("fork").Process(target=die)
    process.start()
    process.join(60)
    assert_all_right(images)
