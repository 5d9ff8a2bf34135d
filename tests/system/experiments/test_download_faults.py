"""Downloads from a real server that fails: what arrives is the whole published file, or nothing."""

from __future__ import annotations

import hashlib
import random
import secrets

import pytest
from support.archive_server import Fault, archive_server

from experiments.datasets.prepare.download import Patience, addresses, download, receipt
from experiments.datasets.prepare.manifest import Archive
from merge.errors import DataError, DownloadError, PapergridError, UsageError
from merge.storage.json_files import read_json, write_json

pytestmark = pytest.mark.system

NAME = "images.zip"
CONTENT = random.Random(3).randbytes(300_000)
OTHER = random.Random(4).randbytes(300_000)
QUICK = Patience(tries=4, timeout_s=10, first_wait_s=0.01)
KNOWN = {"bytes": len(CONTENT), "md5": hashlib.md5(CONTENT).hexdigest()}


@pytest.fixture
def server():
    with archive_server({NAME: CONTENT}) as found:
        yield found


@pytest.fixture
def second_server():
    with archive_server({NAME: CONTENT}) as found:
        yield found


def fetch(folder, *servers, patience=QUICK, **known):
    archive = Archive(file=NAME, **known)
    return download(archive, folder, [f"{s.url}/{NAME}" for s in servers], patience)


def offsets(server) -> list[int]:
    return [int(wanted[6:-1]) if wanted else 0 for wanted in server.asked(NAME)]


@pytest.mark.parametrize("known", [KNOWN, {}], ids=["digest known", "digest unknown"])
def test_a_connection_cut_at_random_bytes_is_continued_where_it_broke(server, tmp_path, known):
    seed = secrets.randbelow(2**32)
    print(f"seed {seed}")
    cuts = [random.Random(seed + i).randrange(1, 40_000) for i in range(6)]
    server.fail(NAME, *(Fault(cut_after=cut) for cut in cuts))
    path = fetch(tmp_path, server, **known)
    assert path.read_bytes() == CONTENT
    assert offsets(server) == [sum(cuts[:i]) for i in range(7)]
    assert sorted(p.name for p in tmp_path.iterdir()) == [NAME, receipt(path).name]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_answer_that_may_pass_is_asked_for_again(server, tmp_path, status):
    server.fail(NAME, *[Fault(status=status)] * 3)
    assert fetch(tmp_path, server, **KNOWN).read_bytes() == CONTENT
    assert len(server.requests) == 4


def test_a_silent_server_is_left_and_the_file_continued(server, tmp_path):
    server.fail(NAME, Fault(hold_after=1000))
    patience = Patience(tries=2, timeout_s=0.5, first_wait_s=0.01)
    assert fetch(tmp_path, server, patience=patience, **KNOWN).read_bytes() == CONTENT
    assert offsets(server) == [0, 1000]


@pytest.mark.parametrize(
    ("fault", "num_asked"),
    [
        (Fault(status=404), 1),
        (Fault(status=503), QUICK.tries),
        (Fault(cut_after=0), QUICK.tries),
        (Fault(body=OTHER), 1),
        (Fault(body=CONTENT[:-1]), 1),
    ],
    ids=["absent", "overloaded", "cut at once", "wrong checksum", "wrong size"],
)
def test_the_second_mirror_serves_what_the_first_does_not(
    server, second_server, tmp_path, fault, num_asked
):
    server.always[NAME] = fault
    path = fetch(tmp_path, server, second_server, **KNOWN)
    assert path.read_bytes() == CONTENT
    assert len(server.requests) == num_asked
    assert read_json(receipt(path))["downloaded_from"] == f"{second_server.url}/{NAME}"


def test_a_mirror_continues_what_another_began_where_a_digest_will_tell(
    server, second_server, tmp_path
):
    server.fail(NAME, Fault(cut_after=7000))
    server.always[NAME] = Fault(status=404)
    assert fetch(tmp_path, server, second_server, **KNOWN).read_bytes() == CONTENT
    assert offsets(second_server) == [7000]


@pytest.mark.parametrize("known", [KNOWN, {}], ids=["digest known", "digest unknown"])
def test_a_redirected_file_is_continued_where_it_now_lies(server, second_server, tmp_path, known):
    server.always[NAME] = Fault(redirect=f"{second_server.url}/{NAME}")
    second_server.fail(NAME, Fault(cut_after=7000))
    assert fetch(tmp_path, server, **known).read_bytes() == CONTENT
    assert offsets(second_server) == [0, 7000]


def test_without_a_digest_a_mirror_begins_anew(server, second_server, tmp_path):
    server.fail(NAME, Fault(cut_after=7000))
    server.always[NAME] = Fault(status=404)
    second_server.files[NAME] = OTHER
    assert fetch(tmp_path, server, second_server).read_bytes() == OTHER
    assert offsets(second_server) == [0]


def test_a_file_that_changed_on_the_server_is_not_glued_to_the_old_part(server, tmp_path):
    server.fail(NAME, Fault(cut_after=9000), Fault(status=404))
    with pytest.raises(DataError):
        fetch(tmp_path, server)
    assert (tmp_path / f"{NAME}.part").stat().st_size == 9000
    server.files[NAME] = OTHER
    assert fetch(tmp_path, server).read_bytes() == OTHER


def test_a_continued_part_that_turns_out_wrong_is_dropped_and_begun_anew(
    server, second_server, tmp_path
):
    second_server.files[NAME] = OTHER
    second_server.fail(NAME, Fault(cut_after=5000), Fault(status=404))
    with pytest.raises(DataError):
        fetch(tmp_path, second_server, **KNOWN)
    assert fetch(tmp_path, server, **KNOWN).read_bytes() == CONTENT
    assert offsets(server) == [5000, 0]


@pytest.mark.parametrize("fault", [Fault(ignores_range=True), Fault(hides_validators=True)])
def test_a_server_that_cannot_say_it_is_the_same_file_sends_all_of_it(server, tmp_path, fault):
    server.fail(
        NAME, Fault(cut_after=5000, hides_validators=fault.hides_validators), fault, Fault()
    )
    assert fetch(tmp_path, server).read_bytes() == CONTENT
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    "part", [b"", CONTENT[:100], CONTENT + b"more", b"x" * len(CONTENT)], ids=len
)
@pytest.mark.parametrize("has_sidecar", [True, False])
def test_whatever_an_earlier_process_left_the_file_becomes_right(
    server, tmp_path, part, has_sidecar
):
    path = tmp_path / f"{NAME}.part"
    path.write_bytes(part)
    if has_sidecar:
        etag = f'"{hashlib.md5(CONTENT).hexdigest()}"'
        remote = {"url": f"{server.url}/{NAME}", "validator": etag, "total_bytes": len(CONTENT)}
        write_json(path.with_name(f"{path.name}.json"), remote)
    assert fetch(tmp_path, server, **KNOWN).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("fault", "error", "reason"),
    [
        (Fault(status=503), DownloadError, "503"),
        (Fault(status=404), DataError, "404"),
        (Fault(body=OTHER), DataError, "not the published file"),
    ],
)
def test_what_no_server_gives_is_said_with_every_address_and_the_way_by_hand(
    server, second_server, tmp_path, fault, error, reason
):
    for each in (server, second_server):
        each.always[NAME] = fault
    with pytest.raises(PapergridError) as caught:
        fetch(tmp_path, server, second_server, **KNOWN)
    assert type(caught.value) is error
    text = str(caught.value)
    assert text.count(reason) == 2
    for fragment in (NAME, server.url, second_server.url, "--mirror", str(tmp_path)):
        assert fragment in text
    assert not (tmp_path / NAME).exists()


def test_a_server_that_is_not_there_is_said(tmp_path):
    with archive_server({}) as gone:
        url = gone.url
    with pytest.raises(DownloadError, match="no connection"):
        download(Archive(file=NAME), tmp_path, [f"{url}/{NAME}"], QUICK)


def test_a_server_that_always_cuts_and_always_lies_is_given_up(server, tmp_path):
    server.files[NAME] = OTHER
    server.fail(NAME, *[Fault(cut_after=150_000), Fault()] * 4)
    with pytest.raises(DataError, match="not the published file"):
        fetch(tmp_path, server, **KNOWN)


@pytest.mark.parametrize(
    "mirror", ["ftp://host/x", "host/x", "file:///x", "http://user:pw@host/x", "http://host/x?k=v"]
)
def test_a_mirror_that_cannot_be_one_is_refused_without_showing_a_secret(mirror):
    with pytest.raises(UsageError) as caught:
        addresses(Archive(file=NAME), [mirror])
    assert "pw" not in str(caught.value)


def test_mirrors_come_before_the_official_places_and_each_address_once():
    archive = Archive(file=NAME, urls=("http://official/a/images.zip", "http://b/images.zip"))
    assert addresses(archive, ["http://b/", "https://c/d"]) == (
        "http://b/images.zip",
        "https://c/d/images.zip",
        "http://official/a/images.zip",
    )
