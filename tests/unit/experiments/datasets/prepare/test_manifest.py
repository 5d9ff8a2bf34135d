"""The manifest of archives: the official figures hold together, and a wrong file is explained."""

from __future__ import annotations

import pytest
import yaml
from support.fewshot_archives import make_archives, manifest_of

from experiments.datasets.prepare.manifest import OFFICIAL, load_manifest
from merge.errors import DataError

SIZES = {
    "VOCtrainval_11-May-2012.tar": 1_999_639_040,
    "benchmark.tgz": 1_419_539_633,
    "train_noval.txt": 5623 * len("2008_000008\n"),
    "train2014.zip": 13_510_573_713,
    "val2014.zip": 6_645_013_297,
    "annotations_trainval2014.zip": 252_872_794,
}


def test_every_official_archive_has_addresses_a_size_and_a_digest():
    manifest = load_manifest()
    archives = [a for name in ("pascal5i", "coco20i") for a in manifest.of(name).archives.values()]
    assert {archive.file: archive.bytes for archive in archives} == SIZES
    for archive in archives:
        assert archive.has_digest
        assert len(archive.urls) >= 2
        assert all(url.endswith(f"/{archive.file}") for url in archive.urls)


def test_the_published_list_of_sbd_has_the_listed_digest(real_data):
    from experiments.datasets.prepare.integrity import mismatch

    listed = load_manifest().pascal5i.archives["train_noval"]
    assert mismatch(real_data / "pascal-masks" / "sbd_train_noval.txt", listed) is None
    assert "md5" in str(mismatch(OFFICIAL, listed.model_copy(update={"bytes": None})))
    assert "bytes" in str(mismatch(OFFICIAL, listed))


def test_a_manifest_of_ones_own_is_read(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(manifest_of(make_archives(tmp_path / "scratch"), "http://mirror"))
    assert load_manifest(path).coco20i.archives["val2014"].urls == ("http://mirror/val2014.zip",)


def _drop_sbd(document):
    del document["pascal5i"]["archives"]["sbd"]


def _set(key, value):
    def change(document):
        document["coco20i"]["archives"]["val2014"][key] = value

    return change


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        (_drop_sbd, "pascal5i.archives lacks sbd"),
        (_set("file", "../../etc/passwd"), "val2014.file"),
        (_set("inside", "/etc"), "val2014.inside"),
        (_set("urls", ["ftp://host/val2014.zip"]), "val2014.urls"),
        (_set("urls", ["http://user:secret@host/val2014.zip"]), "val2014.urls"),
        (_set("md5", "0DA8"), "val2014.md5"),
        (_set("bites", 3), "val2014.bites"),
    ],
)
def test_what_is_wrong_with_a_manifest_is_said_with_its_place(tmp_path, change, fragment):
    document = yaml.safe_load(OFFICIAL.read_text())
    change(document)
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(DataError) as caught:
        load_manifest(path)
    assert fragment in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["a: [", "", "- 1", None])
def test_a_manifest_that_is_no_manifest_is_refused(tmp_path, text):
    path = tmp_path / "mine.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=r"mine\.yaml"):
        load_manifest(path)
