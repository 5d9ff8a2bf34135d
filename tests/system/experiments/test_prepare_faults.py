"""`replicate prepare` under faults: resumed or refused, never a half-made folder."""

from __future__ import annotations

import json
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.archive_server import ArchiveServer, Fault, archive_server
from support.commands import replicate
from support.fewshot_archives import (
    ANNOTATIONS,
    SBD,
    SBD_LIST,
    TRAIN2014,
    VAL2014,
    VOC,
    make_archives,
    manifest_of,
)
from support.fewshot_trees import PASCAL_SBD, PASCAL_SBD_VAL, PASCAL_TRAIN, PASCAL_VAL, files_below

pytestmark = pytest.mark.system

VOC_ROOT = "VOCdevkit/VOC2012"
PARTS = {
    "pascal5i": (VOC_ROOT, f"{VOC_ROOT}/SegmentationClassAug"),
    "coco20i": ("COCO2014/annotations", "COCO2014/train2014", "COCO2014/val2014"),
}
ARCHIVES = {"pascal5i": (VOC, SBD_LIST, SBD), "coco20i": (ANNOTATIONS, TRAIN2014, VAL2014)}


@pytest.fixture(scope="module")
def archives(tmp_path_factory) -> dict[str, bytes]:
    return make_archives(tmp_path_factory.mktemp("archives"), num_more=150)


@dataclass
class Place:
    """A data root to prepare into, from one server."""

    folder: Path
    server: ArchiveServer
    archives: dict[str, bytes]

    @property
    def root(self) -> Path:
        return self.folder / "root"

    def words(self, dataset: str, *more: object) -> list[str]:
        manifest = self.folder / "archives.yaml"
        if not manifest.exists():
            self.describe()
        words = ("prepare", "--datasets", dataset, "--data-root", self.root, "--tries", 2)
        return [
            str(w) for w in (*words, "--cache-dir", self.folder / "cache", "--manifest", manifest)
        ] + [str(word) for word in more]

    def describe(self, **changes: dict[str, object]) -> None:
        text = manifest_of(self.archives, self.server.url, **changes)
        (self.folder / "archives.yaml").write_text(text)

    def prepare(self, dataset: str, *more: object) -> subprocess.CompletedProcess[str]:
        return replicate(*self.words(dataset, *more), cwd=self.folder)

    def start(self, dataset: str, *more: object) -> subprocess.Popen[bytes]:
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "replicate.cli.main", *self.words(dataset, *more)],
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )

    def forget(self) -> None:
        """Delete all that was made, but no archive."""
        for top in self.tops:
            shutil.rmtree(top, ignore_errors=True)

    def is_unpacking(self) -> bool:
        """Whether any file has been unpacked, wherever to."""
        # os.walk passes over what is renamed away under it.
        return any(files for top in self.tops for _, _, files in os.walk(top))

    @property
    def tops(self) -> list[Path]:
        return [self.root / "VOCdevkit", self.root / "COCO2014"]

    def content(self, dataset: str) -> dict[str, bytes]:
        """Every file of the parts that there are."""
        return {
            str(path.relative_to(self.root)): path.read_bytes()
            for part in PARTS[dataset]
            for path in sorted((self.root / part).rglob("*"))
            if path.is_file()
        }


@pytest.fixture
def place(tmp_path, archives) -> Iterator[Place]:
    with archive_server(archives) as server:
        yield Place(tmp_path, server, archives)


@pytest.fixture(scope="module")
def whole(archives, tmp_path_factory) -> dict[str, dict[str, bytes]]:
    """What an undisturbed preparation makes."""
    found = {}
    with archive_server(archives) as server:
        place = Place(tmp_path_factory.mktemp("whole"), server, archives)
        for dataset in PARTS:
            assert place.prepare(dataset, "--download").returncode == 0
            found[dataset] = place.content(dataset)
    return found


def check_never_half_made(place: Place, dataset: str, whole: dict[str, bytes]) -> None:
    """Each part that is there is all there; SegmentationClassAug is a part of its own."""
    for part in PARTS[dataset]:
        inner = [p for p in PARTS[dataset] if p != part and p.startswith(part)]
        wanted = {
            name: content
            for name, content in whole.items()
            if name.startswith(f"{part}/")
            and not any(name.startswith(f"{p}/") for p in inner)
            and not name.endswith(SBD_LIST)
        }
        found = {
            name: content for name, content in place.content(dataset).items() if name in wanted
        }
        assert found in ({}, wanted), f"{part} is half-made"


def test_both_data_sets_come_from_their_archives_and_a_second_call_asks_for_nothing(place, whole):
    for dataset, names in ARCHIVES.items():
        done = place.prepare(dataset, "--download", "--json")
        assert done.returncode == 0, done.stderr
        (entry,) = json.loads(done.stdout)["datasets"]
        assert [made["archive"] for made in entry["made"]] == list(names)
        assert place.content(dataset) == whole[dataset]
    maps = place.root / VOC_ROOT / "SegmentationClassAug"
    shown = {path.stem: np.array(Image.open(path)) for path in maps.iterdir()}
    assert sorted(shown) == sorted([PASCAL_TRAIN, PASCAL_SBD, PASCAL_VAL, PASCAL_SBD_VAL])
    for k, name in enumerate((PASCAL_TRAIN, PASCAL_SBD, PASCAL_VAL, PASCAL_SBD_VAL), start=1):
        assert int((shown[name] == k).sum()) == 2000 + k
        # VOC2012's own maps mark rims, SBD's do not; where there are both, VOC2012's counts.
        assert bool((shown[name] == 255).any()) == (name in {PASCAL_TRAIN, PASCAL_VAL})
    assert not list((place.root / "archives").iterdir())
    place.server.requests.clear()
    before = files_below(place.root)
    assert all(place.prepare(dataset, "--download").returncode == 0 for dataset in PARTS)
    assert (place.server.requests, files_below(place.root)) == ([], before)


def test_archives_put_there_by_hand_are_used_without_download_and_kept(place, whole):
    done = place.prepare("pascal5i")
    assert done.returncode == 2
    for name in ARCHIVES["pascal5i"]:
        assert f"{place.server.url}/{name}" in done.stderr
    assert str(place.root / "archives") in done.stderr
    assert not place.root.exists()
    folder = place.root / "archives"
    folder.mkdir(parents=True)
    for name in ARCHIVES["pascal5i"]:
        (folder / name).write_bytes(place.archives[name])
    assert place.prepare("pascal5i").returncode == 0
    assert place.content("pascal5i") == whole["pascal5i"]
    assert sorted(path.name for path in folder.iterdir()) == sorted(ARCHIVES["pascal5i"])
    assert place.server.requests == []


def test_many_faults_on_the_way_leave_the_same_files(place, whole):
    seed = secrets.randbelow(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    for name in ARCHIVES["coco20i"]:
        size = len(place.archives[name])
        place.server.fail(name, Fault(status=503), Fault(cut_after=rng.randrange(size)))
    done = place.prepare("coco20i", "--download", "--keep-archives")
    assert done.returncode == 0, done.stderr
    assert place.content("coco20i") == whole["coco20i"]
    for name in ARCHIVES["coco20i"]:
        assert (place.root / "archives" / name).read_bytes() == place.archives[name]


@pytest.mark.parametrize("dataset", PARTS)
def test_a_wrong_checksum_is_refused_and_makes_no_folder(place, dataset):
    first = ARCHIVES[dataset][0]
    body = bytearray(place.archives[first])
    body[len(body) // 2] ^= 1
    place.server.always[first] = Fault(body=bytes(body))
    done = place.prepare(dataset, "--download")
    assert done.returncode == 2
    assert "md5" in done.stderr
    assert place.content(dataset) == {}
    assert list((place.root / "archives").iterdir()) == []


@pytest.mark.parametrize(
    ("dataset", "name"), [("pascal5i", VOC), ("pascal5i", SBD), ("coco20i", TRAIN2014)]
)
def test_a_truncated_archive_of_unknown_size_is_refused_by_its_own_checks(
    place, whole, dataset, name
):
    content = place.archives[name]
    place.server.files[name] = content[: len(content) * 2 // 3]
    unknown = {"bytes": None, "md5": None}
    place.describe(VOCtrainval_11_May_2012=unknown, benchmark=unknown, train2014=unknown)
    done = place.prepare(dataset, "--download")
    assert done.returncode == 2
    assert name in done.stderr
    assert "Traceback" not in done.stderr
    check_never_half_made(place, dataset, whole[dataset])
    # Deleted, as the message says, and served whole: the same command mends it.
    (place.root / "archives" / name).unlink()
    place.server.files[name] = content
    assert place.prepare(dataset, "--download").returncode == 0
    assert place.content(dataset) == whole[dataset]


def test_a_kill_during_the_download_loses_nothing_that_has_come(place, whole):
    size = len(place.archives[VOC])
    held = size // 2
    place.server.fail(VOC, Fault(hold_after=held))
    process = place.start("pascal5i", "--download")
    part = place.root / "archives" / f"{VOC}.part"
    wait_until(lambda: part.exists() and part.stat().st_size > 0)
    kill(process)
    came = part.stat().st_size
    assert place.content("pascal5i") == {}
    done = place.prepare("pascal5i", "--download")
    assert done.returncode == 0, done.stderr
    assert place.server.asked(VOC) == [None, f"bytes={came}-"]
    assert place.content("pascal5i") == whole["pascal5i"]


@pytest.mark.parametrize("dataset", PARTS)
def test_kills_at_random_instants_leave_whole_parts_or_none(place, whole, dataset):
    seed = secrets.randbelow(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    for number in range(6):
        if number % 2 == 0:
            place.forget()
        process = place.start(dataset, "--download", "--keep-archives")
        if number % 2 == 0:
            wait_until(lambda process=process: process.poll() is not None or place.is_unpacking())
            time.sleep(rng.uniform(0, 0.03))
        else:
            time.sleep(rng.uniform(0.2, 1.5))
        kill(process)
        check_never_half_made(place, dataset, whole[dataset])
    done = place.prepare(dataset, "--download")
    assert done.returncode == 0, done.stderr
    assert place.content(dataset) == whole[dataset]
    assert not [path for path in place.root.rglob("*") if ".unfinished" in path.name]


def test_two_at_once_share_the_work_and_both_end_well(place, whole):
    place.server.fail(VOC, Fault(cut_after=10_000))
    processes = [place.start("pascal5i", "--download") for _ in range(3)]
    assert [process.wait(timeout=100) for process in processes] == [0, 0, 0]
    assert place.content("pascal5i") == whole["pascal5i"]
    asked = [name for name, _ in place.server.requests]
    assert {name: asked.count(name) for name in set(asked)} == {VOC: 2, SBD_LIST: 1, SBD: 1}


def test_an_interrupt_ends_with_130_and_keeps_the_part(place):
    place.server.fail(VOC, Fault(hold_after=20_000))
    process = place.start("pascal5i", "--download")
    part = place.root / "archives" / f"{VOC}.part"
    wait_until(lambda: part.exists() and part.stat().st_size > 0)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert part.exists()


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"mounting a tmpfs is not permitted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("dataset", PARTS)
@pytest.mark.parametrize("share", [0.5, 1.3])
def test_a_full_disk_is_said_with_75_and_more_space_mends_it(place, whole, dataset, share):
    archive = len(place.archives[ARCHIVES[dataset][0 if dataset == "pascal5i" else 1]])
    with mounted(place.root, f"size={int(archive * share)}"):
        done = place.prepare(dataset, "--download")
        assert done.returncode == 75, done.stderr
        assert "full" in done.stderr or "free" in done.stderr
        assert "Traceback" not in done.stderr
        check_never_half_made(place, dataset, whole[dataset])
        subprocess.run(["mount", "-o", "remount,size=64m", str(place.root)], check=True)
        done = place.prepare(dataset, "--download")
        assert done.returncode == 0, done.stderr
        assert place.content(dataset) == whole[dataset]


def test_a_disk_that_fills_up_during_the_download_keeps_the_part(place, whole):
    unknown = {"bytes": None}
    place.describe(VOCtrainval_11_May_2012=unknown)
    size = len(place.archives[VOC]) // 2
    with mounted(place.root, f"size={size}"):
        done = place.prepare("pascal5i", "--download")
        assert (done.returncode, "the disk is full" in done.stderr) == (75, True), done.stderr
        came = (place.root / "archives" / f"{VOC}.part").stat().st_size
        assert 0 < came <= size + 4096
        subprocess.run(["mount", "-o", "remount,size=64m", str(place.root)], check=True)
        assert place.prepare("pascal5i", "--download").returncode == 0
        assert place.server.asked(VOC)[1] == f"bytes={came}-"
        assert place.content("pascal5i") == whole["pascal5i"]


def test_a_read_only_data_root_is_indexed_into_another_cache(place):
    with mounted(place.root, "size=64m"):
        for dataset in PARTS:
            assert place.prepare(dataset, "--download").returncode == 0
        subprocess.run(["mount", "-o", "remount,ro", str(place.root)], check=True)
        shutil.rmtree(place.folder / "cache")
        for dataset in PARTS:
            done = place.prepare(dataset)
            assert done.returncode == 0, done.stderr
        assert list((place.folder / "cache" / "index").glob("pascal5i-*.npz"))
        subprocess.run(["mount", "-o", "remount,rw", str(place.root)], check=True)
        shutil.rmtree(place.root / "COCO2014" / "val2014")
        subprocess.run(["mount", "-o", "remount,ro", str(place.root)], check=True)
        done = place.prepare("coco20i", "--download")
        assert (done.returncode, "read-only" in done.stderr) == (75, True), done.stderr


def kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait(timeout=60)


def wait_until(holds: Callable[[], bool], deadline_s: float = 60) -> None:
    end = time.monotonic() + deadline_s
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)
