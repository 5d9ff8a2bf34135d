"""`replicate prepare` and `replicate data verify` for MIT1003."""

from __future__ import annotations

import json
import shutil
import zipfile

import h5py
import numpy as np
import pytest
from support.archive_server import archive_server
from support.mit1003 import gaze_over, small_copy, write_recording

from experiments.saliency import archives
from experiments.saliency.files import FileSource
from experiments.saliency.hdf5 import convert
from experiments.saliency.prepare import main as prepare
from experiments.saliency.verify import main as verify


@pytest.fixture(scope="module")
def zipped(tmp_path_factory):
    """The archives by file name, with a second tree as a Mac writes it."""
    folder = tmp_path_factory.mktemp("archives")
    root = small_copy(folder / "tree", 3)
    found = {}
    for part in ("ALLSTIMULI", "ALLFIXATIONMAPS"):
        path = folder / f"{part}.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted((root / part).iterdir()):
                archive.write(file, f"{part}/{file.name}")
                archive.writestr(f"__MACOSX/{part}/._{file.name}", b"resource")
        found[path.name] = path.read_bytes()
    return found


@pytest.fixture
def any_digest(monkeypatch):
    """Archives are taken whatever their digest: these are not the published ones."""
    plain = archives._IMAGES.archive.model_copy(update={"md5": None})
    monkeypatch.setattr(archives, "_IMAGES", archives.Part("ALLSTIMULI", plain))


def words(tmp_path, *more):
    where = ["--data-root", str(tmp_path / "data"), "--cache-dir", str(tmp_path / "cache")]
    return ["--datasets", "mit1003", *where, *more]


def test_archives_are_downloaded_unpacked_and_indexed_once(tmp_path, zipped, any_digest, capsys):
    with archive_server(zipped) as server:
        get = words(tmp_path, "--download", "--mirror", server.url, "--json")
        assert prepare(get) == 0
        report = json.loads(capsys.readouterr().out)["datasets"][0]
        assert [part["archive"] for part in report["made"]] == list(zipped)
        assert len(list((tmp_path / "data" / "MIT1003" / "ALLSTIMULI").iterdir())) == 3
        assert list((tmp_path / "data" / "archives").iterdir()) == []
        asked = len(server.requests)
        assert prepare(get) == 0
        assert len(server.requests) == asked


def test_archives_put_there_by_hand_are_used_and_kept(tmp_path, zipped, any_digest):
    folder = tmp_path / "data" / "archives"
    folder.mkdir(parents=True)
    for name, content in zipped.items():
        (folder / name).write_bytes(content)
    assert prepare(words(tmp_path)) == 0
    assert sorted(path.name for path in folder.iterdir()) == sorted(zipped)


def test_another_file_than_the_published_one_is_refused(tmp_path, zipped, capsys):
    folder = tmp_path / "data" / "archives"
    folder.mkdir(parents=True)
    for name, content in zipped.items():
        (folder / name).write_bytes(content)
    assert prepare(words(tmp_path)) == 2
    assert "ALLSTIMULI.zip is not the published archive: its md5 is" in capsys.readouterr().err
    assert not (tmp_path / "data" / "MIT1003").exists()


def test_without_download_it_says_what_to_get(tmp_path, capsys):
    assert prepare(words(tmp_path, "--fixations", "observers")) == 2
    text = capsys.readouterr().err
    for name in ("ALLSTIMULI", "ALLFIXATIONMAPS", "DATA"):
        assert f"{name}: http://people.csail.mit.edu/tjudd/WherePeopleLook/{name}.zip" in text
    assert "add --download to get them" in text
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("flags", [("--tries", "0"), ("--timeout", "-1")])
def test_a_flag_out_of_range_is_refused(tmp_path, flags, capsys):
    assert prepare(words(tmp_path, *flags)) == 2
    assert "--tries is a number from 1" in capsys.readouterr().err


def test_generated_images_are_ready_without_a_data_root(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("experiments.saliency.beacons.NUM_IMAGES", 3)
    assert prepare(["--datasets", "beacons", "--cache-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "beacons is ready\n"


@pytest.fixture
def published_counts(monkeypatch):
    monkeypatch.setattr("experiments.saliency.verify.NUM_IMAGES", 3)
    monkeypatch.setattr("experiments.saliency.verify.NUM_OBSERVERS", 1)


def check(root, capsys, *more):
    code = verify(["--datasets", "mit1003", "--data-root", str(root), "--json", *more])
    return code, json.loads(capsys.readouterr().out)["datasets"][0]


def test_a_whole_copy_has_no_problem(tmp_path, published_counts, capsys):
    root = small_copy(tmp_path, 3)
    for index in range(3):
        write_recording(root / "DATA" / "hp" / f"beacons_{index:04d}.mat", gaze_over([(9, 9)]))
    code, entry = check(root, capsys, "--deep")
    assert (code, entry["problems"]) == (0, [])
    assert entry["checked"] == {"images": 3, "observers": 1, "fixations": 0}


def test_what_is_missing_or_damaged_is_counted(tmp_path, published_counts, capsys):
    root = small_copy(tmp_path, 3)
    (root / "ALLFIXATIONMAPS" / "beacons_0001_fixPts.jpg").unlink()
    assert check(root, capsys)[0] == 3
    shutil.copy(
        root / "ALLSTIMULI" / "beacons_0001.jpeg",
        root / "ALLFIXATIONMAPS" / "beacons_0000_fixMap.jpg",
    )
    code, entry = check(root, capsys, "--deep")
    assert (code, entry["problems_by_kind"]) == (1, {"size": 1, "fixPts": 1})
    assert check(tmp_path / "nothing", capsys)[0] == 3


def test_images_are_decoded_only_if_asked_for(tmp_path, published_counts, capsys):
    root = small_copy(tmp_path, 3)
    for index in range(3):
        write_recording(root / "DATA" / "hp" / f"beacons_{index:04d}.mat", gaze_over([(9, 9)]))
    damaged = root / "ALLSTIMULI" / "beacons_0001.jpeg"
    damaged.write_bytes(b"no image")
    (root / "ALLSTIMULI" / "._beacons_0001.jpeg").write_bytes(b"what a Mac leaves behind")
    assert check(root, capsys)[0] == 0
    code, entry = check(root, capsys, "--deep")
    # Once, though its map and a recording are compared with it.
    assert (code, entry["problems_by_kind"]) == (1, {"image": 1})


def test_an_hdf5_file_that_is_damaged_is_not_called_missing(tmp_path, published_counts, capsys):
    files = FileSource.open(small_copy(tmp_path / "files", 3), tmp_path / "cache", "points")
    (tmp_path / "hdf5").mkdir()
    path = tmp_path / "hdf5" / "mit1003.hdf5"
    convert(files, path, "points")
    assert check(path.parent, capsys, "--deep")[0] == 0
    with h5py.File(path, "a") as file:
        file["maps"][1] = np.frombuffer(b"no image", np.uint8)
    code, entry = check(path.parent, capsys, "--deep")
    assert (code, entry["problems_by_kind"]) == (1, {"image": 1})
    path.write_bytes(b"x" * 99)
    code, entry = check(path.parent, capsys)
    assert (code, entry["problems_by_kind"]) == (1, {"file": 1})
