"""Loader processes that fail: at once, with their cause, and in the words of the data."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from support.tiny_training import Items, TinyOptions, TinyRun
from torch.multiprocessing.reductions import shared_cache

from experiments.runtime.entry import classify
from experiments.runtime.loader_errors import HostMemoryError, explained
from experiments.runtime.loaders import LoaderSettings, load_items, make_loader, received
from experiments.runtime.options import RuntimeOptions
from merge.errors import DataError, PapergridError

ROOT = Path(__file__).resolve().parents[4]

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


@pytest.fixture(autouse=True)
def _forget_what_was_shared():
    """torch remembers tensors that came from loader processes, and complains at Python's exit."""
    yield
    shared_cache.free_dead_references()


def batches(read, *, collate=torch.stack, num_workers=2, timeout_s=0.0, length=8):
    generator, settings = (
        torch.Generator(),
        LoaderSettings(num_workers=num_workers, timeout_s=timeout_s),
    )
    pairs = [[index, index + 1] for index in range(0, length, 2)]
    data = Items(length, read)
    return received(make_loader(data, collate, settings, generator, batch_sampler=pairs))


class OddError(Exception):
    """Cannot be made again from its text alone."""

    def __init__(self, file: str, line: int) -> None:
        super().__init__(f"{file}, line {line}")


def missing(index: int) -> float:
    raise DataError(f"photograph {index}.jpg is missing:\nrestore it")


def odd(index: int) -> float:
    raise OddError("labels.txt", index)


def killed(number: signal.Signals):
    def read(index: int) -> float:
        os.kill(os.getpid(), number)
        return float(index)

    return read


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_and_items_come_in_their_order(num_workers):
    found = [batch.flatten().tolist() for batch in batches(float, num_workers=num_workers)]
    assert found == [[0, 1], [2, 3], [4, 5], [6, 7]]
    settings = LoaderSettings(num_workers=num_workers, timeout_s=0.0)
    items = load_items(Items(8), [5, 2, 7], torch.Generator(), settings)
    assert [float(item) for item in items] == [5, 2, 7]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_error_of_the_data_keeps_its_class_and_its_sentence(num_workers):
    with pytest.raises(DataError) as caught:
        list(batches(missing, num_workers=num_workers))
    assert str(caught.value) == "photograph 0.jpg is missing:\nrestore it"


def test_an_error_that_cannot_be_sent_is_told_with_its_class_and_where_it_arose():
    with pytest.raises(RuntimeError, match=r"^OddError: labels\.txt, line 0") as caught:
        list(batches(odd))
    (note,) = caught.value.__notes__
    assert note.startswith("in loader process 0:\n")
    assert "in odd" in note


@pytest.mark.timeout(30)
def test_a_batch_that_cannot_be_sent_is_an_error_and_not_awaited_for_ever():
    with pytest.raises(Exception, match=r"(?i)pickle.*<lambda>"):
        list(batches(float, collate=lambda items: (torch.stack(items), lambda: None)))


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    ("number", "message"),
    [
        (signal.SIGKILL, "one of 2 loader processes was killed.*lower num_workers"),
        (signal.SIGBUS, "/dev/shm is too small for the batches of 2 loader.*--shm-size"),
    ],
)
def test_a_loader_process_that_dies_ends_the_training_as_short_of_memory(number, message):
    with pytest.raises(RuntimeError) as caught:
        list(batches(killed(number)))
    error = explained(caught.value, 2)
    assert classify(error) == "host_oom"
    with pytest.raises(HostMemoryError, match=message):
        raise error


@pytest.mark.timeout(30)
def test_a_loader_that_hangs_ends_the_training_in_the_time_that_its_option_gives():
    may_end = multiprocessing.get_context("fork").Event()
    started = time.monotonic()
    found: Exception | None = None
    try:
        list(batches(lambda _index: may_end.wait(20), timeout_s=0.5))
    except RuntimeError as timeout:
        # The frames hold the loader, whose end waits for processes that still read.
        may_end.set()
        found = timeout.with_traceback(None)
    assert time.monotonic() - started < 10
    assert found is not None
    error = explained(found, 2)
    assert classify(error) == "stalled"
    assert str(error) == (
        "none of 2 loader processes sent anything for 0 s: look whether the data can be read, or "
        "raise loader_timeout_s (0 waits for ever)"
    )


def test_what_is_no_failure_of_a_loader_keeps_its_words():
    for error in (RuntimeError("No space left on device"), DataError("shm: No space left")):
        assert explained(error, 2) is error
    error = RuntimeError("DataLoader worker (pid 7) exited unexpectedly with exit code 3.")
    assert explained(error, 2) is error
    killed_one = RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")
    assert explained(killed_one, 0) is killed_one


def test_too_few_open_files_are_named():
    error = explained(OSError("received 0 items of ancdata"), 2)
    assert isinstance(error, PapergridError)
    assert "ulimit -n" in str(error)


def test_a_training_reads_in_loader_processes_to_the_same_losses(tmp_path):
    options = TinyOptions(runtime=RuntimeOptions(epochs=1, tensorboard=False))
    losses = [
        TinyRun(tmp_path / str(num), options, num_workers=num).attempt().fit().history
        for num in (0, 1)
    ]
    assert losses[0] == losses[1]


SMALL_SHM = """
import time, torch
from torch.multiprocessing.reductions import shared_cache
from support.tiny_training import Items
from experiments.runtime.loader_errors import explained
from experiments.runtime.loaders import LoaderSettings, make_loader, received

def train(num_workers):
    settings = LoaderSettings(num_workers=num_workers, timeout_s=0.0)
    collate = lambda items: (torch.ones(2**20), "a name")
    try:
        pairs = [[0, 1]] * 24
        for _ in received(
            make_loader(Items(2), collate, settings, torch.Generator(), batch_sampler=pairs)
        ):
            time.sleep(0.01)
    except RuntimeError as error:
        return explained(error, num_workers)

print(train(4))
print(train(1))
"""


@pytest.mark.timeout(90)
def test_a_small_dev_shm_ends_the_training_at_once_and_fewer_loaders_fit():
    mount = "mount -t tmpfs -o size=24m tmpfs /dev/shm"
    start = f"{mount} && exec \"$0\" -W ignore -c '{SMALL_SHM}'"
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", start, sys.executable],
        cwd=ROOT / "tests",
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        capture_output=True,
        text=True,
        timeout=80,
        check=False,
    )
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip(f"no mount of its own: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    with_four, with_one = done.stdout.splitlines()
    assert with_four.startswith("/dev/shm is too small for the batches of 4 loader processes")
    assert "No space left on device" in with_four
    assert with_one == "None"
