"""Unpacking: only plain files below one folder, whole or not at all; anything unsafe is refused."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile

import pytest
from support.fewshot_archives import tar_bytes, zip_bytes

from experiments.datasets.prepare.manifest import Archive
from experiments.datasets.prepare.unpack import unpack
from merge.errors import DataError

GOOD = {"top/a/1.jpg": b"one", "top/a/2.jpg": b"two", "top/list.txt": b"1", "else/x": b"no"}
TAKEN = {"a/1.jpg": b"one", "a/2.jpg": b"two", "list.txt": b"1"}


def archive(**more):
    return Archive(file="made.tar", inside="top", **more)


def content(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def saved(tmp_path, data, suffix):
    path = tmp_path / f"made{suffix}"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("suffix", "data"),
    [(".tar", tar_bytes(GOOD)), (".tgz", tar_bytes(GOOD, "w:gz")), (".zip", zip_bytes(GOOD))],
)
def test_the_files_below_one_folder_are_taken_and_counted(tmp_path, suffix, data):
    path, target = saved(tmp_path, data, suffix), tmp_path / "out" / "target"
    unpack(path, archive(holds={"a": 2, ".": 1}), target)
    assert content(target) == TAKEN
    assert [p.name for p in target.parent.iterdir()] == ["target"]
    with pytest.raises(DataError, match="holds 2 files for a, not 3"):
        unpack(path, archive(holds={"a": 3}), tmp_path / "out" / "other")
    assert [p.name for p in target.parent.iterdir()] == ["target"]


def test_what_is_there_already_is_not_touched(tmp_path):
    target = tmp_path / "target"
    (target / "a").mkdir(parents=True)
    (target / "a" / "1.jpg").write_bytes(b"mine")
    unpack(saved(tmp_path, tar_bytes(GOOD), ".tar"), archive(), target)
    assert content(target) == {**TAKEN, "a/1.jpg": b"mine"}


def test_only_the_named_files_are_taken_and_all_of_them_must_be_there(tmp_path):
    path = saved(tmp_path, zip_bytes(GOOD), ".zip")
    unpack(path, archive(only=["list.txt"]), tmp_path / "target")
    assert content(tmp_path / "target") == {"list.txt": b"1"}
    with pytest.raises(DataError, match=r"lacks more\.txt"):
        unpack(path, archive(only=["list.txt", "more.txt"]), tmp_path / "other")


def _tar_with(entry):
    buffer = io.BytesIO(tar_bytes(GOOD))
    with tarfile.open(fileobj=buffer, mode="a") as found:
        found.addfile(entry)
    return buffer.getvalue()


def _tar_entry(name, kind=tarfile.REGTYPE, target=""):
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry


def _zip_link():
    entry = zipfile.ZipInfo("top/link")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    buffer = io.BytesIO(zip_bytes(GOOD))
    with zipfile.ZipFile(buffer, "a") as found:
        found.writestr(entry, "/etc/passwd")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("suffix", "data", "reason"),
    [
        (".tar", _tar_with(_tar_entry("top/../../evil")), "outside"),
        (".tar", _tar_with(_tar_entry("../evil")), "outside"),
        (".tar", _tar_with(_tar_entry("/tmp/evil")), "outside"),
        (".tar", _tar_with(_tar_entry("top/x", tarfile.SYMTYPE, "/etc/passwd")), "link"),
        (".tar", _tar_with(_tar_entry("top/x", tarfile.LNKTYPE, "top/list.txt")), "link"),
        (".tar", _tar_with(_tar_entry("top/x", tarfile.CHRTYPE)), "device"),
        (".tar", _tar_with(_tar_entry("top/x", tarfile.FIFOTYPE)), "device"),
        (".zip", zip_bytes({**GOOD, "top/../../evil": b""}), "outside"),
        (".zip", zip_bytes({**GOOD, "/evil": b""}), "outside"),
        (".zip", zip_bytes({**GOOD, "top/..\\evil": b""}), "outside"),
        (".zip", _zip_link(), "link"),
    ],
)
def test_an_unsafe_archive_is_refused_whole(tmp_path, suffix, data, reason):
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(DataError, match=rf"refused.*{reason}"):
        unpack(saved(tmp_path, data, suffix), archive(), folder / "target")
    assert list(folder.iterdir()) == []
    assert not list(tmp_path.rglob("evil"))


def test_a_link_outside_of_the_folder_that_is_taken_is_left_out(tmp_path):
    data = _tar_with(_tar_entry("else/link", tarfile.SYMTYPE, "x"))
    unpack(saved(tmp_path, data, ".tar"), archive(), tmp_path / "target")
    assert content(tmp_path / "target") == TAKEN


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("suffix", [".tgz", ".zip"])
def test_a_damaged_archive_leaves_nothing(tmp_path, suffix, share):
    data = tar_bytes(GOOD, "w:gz") if suffix == ".tgz" else zip_bytes(GOOD)
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(DataError, match="damaged"):
        unpack(
            saved(tmp_path, data[: int(len(data) * share)], suffix), archive(), folder / "target"
        )
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(("suffix", "place"), [(".zip", 60), (".tgz", -6)])
def test_a_flipped_byte_is_found_by_the_archives_own_checksum(tmp_path, suffix, place):
    files = {"top/a.txt": bytes(range(256)) * 4}
    data = bytearray(zip_bytes(files) if suffix == ".zip" else tar_bytes(files, "w:gz"))
    data[place] ^= 1
    with pytest.raises(DataError, match="damaged"):
        unpack(saved(tmp_path, bytes(data), suffix), archive(), tmp_path / "target")
