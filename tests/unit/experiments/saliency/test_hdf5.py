"""MIT1003 in one HDF5 file, read by several processes."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
from support.mit1003 import small_copy
from torch.utils.data import DataLoader

from experiments.saliency.files import FileSource
from experiments.saliency.hdf5 import Hdf5Files, Hdf5Source, convert
from experiments.saliency.source import fingerprint, read_rgb
from experiments.saliency.to_hdf5 import main
from merge.errors import DataError


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    """The same images in folders and in a file."""
    root = tmp_path_factory.mktemp("data")
    files = FileSource.open(small_copy(root), root / "cache", "points")
    convert(files, root / "mit1003.hdf5", "points")
    return files, root / "mit1003.hdf5"


def test_the_file_holds_the_same_data_as_the_folders(copies):
    files, path = copies
    source = Hdf5Source.open(path, "points")
    assert fingerprint(source) == fingerprint(files)
    for index in range(len(files.stimuli)):
        assert source.image_file(index) == files.image_file(index)
        assert source.map_file(index) == files.map_file(index)
        assert np.array_equal(read_rgb(source, index), read_rgb(files, index))


class HolderOfEachImage:
    """Items that say which process read them, and which one holds the file open."""

    def __init__(self, files: Hdf5Files) -> None:
        self.files = files

    def __len__(self):
        return 6

    def __getitem__(self, index):
        self.files.read("images", index)
        return os.getpid(), self.files.opened_by


def test_each_loader_process_opens_the_file_for_itself(copies):
    """Also where the training's own process had it open before: fork copies the handle."""
    source = Hdf5Source.open(copies[1])
    source.image_file(0)
    assert source.files.opened_by == os.getpid()
    loader = DataLoader(
        HolderOfEachImage(source.files),
        batch_size=None,
        num_workers=2,
        multiprocessing_context="fork",
        persistent_workers=True,
    )
    holders = [tuple(item) for item in loader]
    # In the next epoch the processes live on, and this one holds the file open once more.
    source.image_file(1)
    holders += [tuple(item) for item in loader]
    readers = {reader for reader, _ in holders}
    assert len(readers) == 2
    assert os.getpid() not in readers
    assert all(reader == holder for reader, holder in holders)
    # And this process goes on reading.
    assert source.image_file(3) == copies[0].image_file(3)


def test_a_process_that_is_started_anew_gets_no_handle(copies):
    files = Hdf5Files(copies[1])
    files.read("images", 0)
    sent = pickle.loads(pickle.dumps(files))
    assert sent.opened_by is None
    assert sent.read("images", 2) == copies[0].image_file(2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is not there: `replicate data mit1003-hdf5"),
        (b"x" * 99, "is damaged or no HDF5 file"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path, content, message):
    path = tmp_path / "mit1003.hdf5"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        Hdf5Source.open(path)


def test_a_file_of_other_fixations_or_another_form_is_refused(copies, tmp_path):
    import h5py

    with pytest.raises(DataError, match="holds the fixations of 'points', not of 'observers'"):
        Hdf5Source.open(copies[1], "observers")
    with h5py.File(tmp_path / "other.hdf5", "w") as file:
        file.attrs["format"] = "another"
    with pytest.raises(DataError, match="is not of the form papergrid-mit1003 1"):
        Hdf5Source.open(tmp_path / "other.hdf5")


def test_the_converter_writes_the_file_once(tmp_path, capsys):
    root = small_copy(tmp_path / "data", 2)
    words = ["--data-root", str(root), "--cache-dir", str(tmp_path / "cache")]
    assert main(words) == 0
    assert "2 images" in capsys.readouterr().out
    assert len(Hdf5Source.open(root / "mit1003.hdf5").stimuli) == 2
    assert main(words) == 2
    assert "is there already: move it away" in capsys.readouterr().err
    assert main([*words, "--output", str(tmp_path / "none" / "a.hdf5")]) == 2
    assert main([*words, "--fixations", "dots"]) == 2
    assert "choose points or observers" in capsys.readouterr().err
    (root / "ALLSTIMULI" / "beacons_0001.jpeg").unlink()
    assert sorted(path.name for path in root.iterdir()) == [
        "ALLFIXATIONMAPS",
        "ALLSTIMULI",
        "mit1003.hdf5",
    ]


def test_a_conversion_that_fails_leaves_nothing(tmp_path, capsys):
    root = small_copy(tmp_path / "data", 2)
    (root / "ALLFIXATIONMAPS" / "beacons_0001_fixMap.jpg").unlink()
    words = ["--data-root", str(root), "--cache-dir", str(tmp_path / "cache")]
    assert main(words) == 2
    assert "fixMap.jpg cannot be read" in capsys.readouterr().err
    assert sorted(path.name for path in root.iterdir()) == ["ALLFIXATIONMAPS", "ALLSTIMULI"]
