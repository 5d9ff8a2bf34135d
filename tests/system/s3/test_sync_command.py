"""`replicate sync` and `replicate run --sync` as a person types them, with real servers."""

from __future__ import annotations

import json
import shlex
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.bucket_trees import files, objects, write_output
from support.commands import MarkedCommand, command_line, replicate
from support.fault_proxy import FaultProxy
from support.grids import make_grid
from support.s3_server import BUCKET, S3Server, environment, ministack, rclone

pytestmark = pytest.mark.system

PLACE = f"s3://{BUCKET}/study"
TOKEN = "FwoGZXIvYXdzEXAMPLEsessionTOKEN0123456789"
UNIQUE = {
    "AWS_ACCESS_KEY_ID": "AKIAUNIQUETOONETEST1",
    "AWS_SECRET_ACCESS_KEY": "orchid/Falcon+2meadow8Copper6Lantern3Willow",
    "AWS_SESSION_TOKEN": TOKEN,
}
"""Credentials that no server of these tests was started with: they may be nowhere at all."""

STUDY = """\
name: plain
command: [sh, train.sh, "{seed}"]
axes:
  lr: [0.1]
  seed: [0, 1, 2, 3]
average_over: seed
metric: {name: loss, goal: min}
"""

TRAIN = """\
mkdir -p "$PAPERGRID_RUN_DIR/checkpoints"
echo "weights $1" > "$PAPERGRID_RUN_DIR/checkpoints/last.pt"
echo "training $1"
sleep 0.5
echo "{\\"metrics\\": {\\"loss\\": 0.$1}}" > "$PAPERGRID_ATTEMPT_DIR/result.json"
"""


@pytest.fixture(scope="module")
def unlike(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A server that checks signatures and ignores conditions."""
    with rclone(tmp_path_factory.mktemp("rclone")) as running:
        yield running


@pytest.fixture
def server(tmp_path: Path) -> Iterator[S3Server]:
    with ministack(tmp_path / "s3") as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A fresh folder with a study of four short runs."""
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "study.yaml").write_text(STUDY)
    (folder / "train.sh").write_text(TRAIN)
    return folder


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {**environment(tmp_path), "AWS_SESSION_TOKEN": TOKEN}


def test_what_is_finished_is_sent_beside_the_training(
    server: S3Server, folder: Path, env: dict[str, str]
) -> None:
    done = _train(folder, env, "--sync", PLACE, *server.flags)
    assert done.returncode == 0, done.stderr
    there = objects(server.client(), "study")
    here = files(folder / "outputs/study")
    (cell,) = json.loads(there.pop("replication_results.json"))["results"].values()
    assert cell["complete"]
    assert {name for name in here if name.endswith((".pt", "result.json"))} <= there.keys()
    assert all(here[name] == data for name, data in there.items())
    verified = replicate(
        "sync", "verify", "outputs/study", PLACE, *server.flags, cwd=folder, env=env
    )
    assert verified.returncode == 0, verified.stderr


def test_an_outage_during_training_is_made_up_for(
    server: S3Server, folder: Path, env: dict[str, str]
) -> None:
    with FaultProxy(server.endpoint, seed=1, share=0.0).serving() as proxy:
        proxy.is_down = True
        words = [
            "run",
            "--study",
            "study.yaml",
            "--devices",
            "cpu:1",
            "--sync",
            PLACE,
            *proxy.flags,
        ]
        log = folder / "log"
        process = MarkedCommand(words, folder, env).start(log)
        _wait(lambda: list(folder.glob("outputs/study/*/*/result.json")), process)
        assert objects(server.client(), "study") == {}
        proxy.is_down = False
        assert process.wait(120) == 0, log.read_text()
    assert "training continues" in log.read_text()
    merged = json.loads(objects(server.client(), "study")["replication_results.json"])
    assert [cell["n"] for cell in merged["results"].values()] == [4]


def test_what_could_not_be_sent_is_said_with_the_command_that_sends_it(
    server: S3Server, folder: Path, env: dict[str, str]
) -> None:
    with FaultProxy(server.endpoint, seed=1, share=0.0).serving() as proxy:
        proxy.is_down = True
        done = _train(folder, env, "--sync", PLACE, "--sync-patience", "1", *proxy.flags)
        assert done.returncode == 75
        assert "4 runs could not be sent" in done.stderr
        assert len(list(folder.glob("outputs/study/*/*/result.json"))) == 4
        proxy.is_down = False
        command = shlex.split(done.stderr.splitlines()[-1])
        assert command[:3] == ["replicate", "sync", "push"]
        sent = replicate(*command[1:], cwd=folder, env=env)
        assert sent.returncode == 0, sent.stderr
    merged = json.loads(objects(server.client(), "study")["replication_results.json"])
    assert [cell["n"] for cell in merged["results"].values()] == [4]


@pytest.mark.parametrize(
    ("url", "words", "message"),
    [
        ("s3://nothere/x", [], "there is no bucket 'nothere'"),
        ("papers/x", [], "write s3://BUCKET/PREFIX"),
        (PLACE, ["--max-bandwidth", "fast"], "is not a rate"),
        (PLACE, ["--aws-profile", "nobody"], "there is no AWS profile 'nobody'"),
    ],
)
def test_a_wrong_place_is_refused_before_anything_is_trained(
    unlike: S3Server,
    folder: Path,
    env: dict[str, str],
    url: str,
    words: list[str],
    message: str,
) -> None:
    env = {**env, "AWS_SESSION_TOKEN": ""}
    done = _train(folder, env, "--sync", url, *unlike.flags, *words)
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr
    assert not (folder / "outputs").exists()


def test_another_plan_in_the_bucket_is_refused_before_anything_is_trained(
    server: S3Server, folder: Path, env: dict[str, str]
) -> None:
    (folder / "study.yaml").write_text(f"{STUDY}fixed: {{steps: 10}}\n")
    assert _train(folder, env, "--sync", PLACE, *server.flags).returncode == 0
    (folder / "study.yaml").write_text(f"{STUDY}fixed: {{steps: 20}}\n")
    done = _train(folder, env, "--output-dir", "new", "--sync", PLACE, *server.flags)
    assert done.returncode == 2
    assert "10 -> 20" in done.stderr
    assert not (folder / "new").exists()


def test_a_store_that_ignores_conditions_gets_results_and_no_merged_view(
    unlike: S3Server, folder: Path, env: dict[str, str]
) -> None:
    sweep = make_grid()
    output = write_output(folder / "here", sweep, sweep.runs)
    env = {**env, "AWS_SESSION_TOKEN": ""}
    pushed = replicate("sync", "push", output, PLACE, *unlike.flags, cwd=folder, env=env)
    assert pushed.returncode == 1
    assert "ignores conditional writes" in pushed.stderr
    assert "replicate merge" in pushed.stderr
    assert objects(unlike.client(), "study") == files(output)
    pulled = replicate("sync", "pull", "there", PLACE, *unlike.flags, cwd=folder, env=env)
    assert pulled.returncode == 0, pulled.stderr
    assert files(folder / "there") == files(output)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "another"}, "SignatureDoesNotMatch"),
        ({"AWS_ACCESS_KEY_ID": "AKIASOMEBODYELSE0000"}, "InvalidAccessKeyId"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "no complete credentials"),
    ],
)
def test_wrong_credentials_are_refused(
    unlike: S3Server, folder: Path, env: dict[str, str], wrong: dict[str, str], message: str
) -> None:
    sweep = make_grid()
    output = write_output(folder / "here", sweep, sweep.runs[:1])
    env = {**env, "AWS_SESSION_TOKEN": "", **wrong}
    done = replicate("sync", "push", output, PLACE, *unlike.flags, cwd=folder, env=env)
    assert done.returncode == 2
    assert message in done.stderr


@pytest.mark.parametrize("door", ["environment", "profile"])
def test_secrets_appear_in_no_file_log_error_object_or_process_list(
    server: S3Server, folder: Path, env: dict[str, str], tmp_path: Path, door: str
) -> None:
    words = ["--sync", PLACE, *server.flags, "--log-level", "debug"]
    env = {**env, **UNIQUE}
    if door == "profile":
        env, flags = _profile(tmp_path, env)
        words += flags
    log = folder / "log"
    words = ["run", "--study", "study.yaml", "--devices", "cpu:2", *words]
    process = MarkedCommand(words, folder, env).start(log)
    seen = ""
    while process.poll() is None:
        seen += "\n".join(command_line(pid) for pid in _all_processes())
        time.sleep(0.02)
    assert process.returncode == 0, log.read_text()
    env["AWS_MAX_ATTEMPTS"] = "1"
    for words in (["push", PLACE], ["push", "s3://absent/x"], ["verify", PLACE], ["pull", PLACE]):
        action, place = words
        flags = ["--log-level", "debug", *server.flags]
        done = replicate("sync", action, "outputs/study", place, *flags, cwd=folder, env=env)
        seen += done.stdout + done.stderr
    kept = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    kept += objects(server.client(), "study").values()
    assert len(kept) > 40
    for secret in UNIQUE.values():
        assert secret not in seen
        assert not [data for data in kept if secret.encode() in data]


def test_doctor_tries_what_may_be_done_in_a_bucket(
    unlike: S3Server, folder: Path, env: dict[str, str]
) -> None:
    words = ["doctor", "out", "--only", "folder", "--json", *unlike.flags]
    env = {**env, "AWS_SESSION_TOKEN": ""}
    given = replicate(*words, "--bucket", PLACE, cwd=folder, env=env)
    verdicts = {one["name"]: one["verdict"] for one in json.loads(given.stdout)["checks"]}
    assert {name: verdicts[f"bucket: {name}"] for name in ("list", "put", "get", "delete")} == (
        dict.fromkeys(("list", "put", "get", "delete"), "ok")
    )
    assert verdicts["bucket: conditional put"] == "warning"
    absent = replicate(*words, "--bucket", "s3://nothere/x", cwd=folder, env=env)
    assert absent.returncode == 1
    assert "there is no bucket 'nothere'" in absent.stdout


def test_what_is_submitted_syncs_as_it_was_asked_for(folder: Path) -> None:
    (folder / "hosts.yaml").write_text("hosts:\n  - one\n")
    words = ["--servers", "hosts.yaml", "--dry-run"]
    words += ["--claims", PLACE, "--aws-profile", "lab", "--max-bandwidth", "50MB/s"]
    done = replicate("submit", "--study", "study.yaml", *words, cwd=folder)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if "nohup" in line]
    assert f"--claims {PLACE}" in line
    assert "--aws-profile lab --max-bandwidth 50MB/s" in line


def test_a_password_in_an_endpoint_is_refused_without_repeating_it(folder: Path) -> None:
    words = ["--endpoint-url", "https://user:hush@s3.example.org"]
    done = replicate("sync", "push", "outputs", PLACE, *words, cwd=folder)
    assert done.returncode == 2
    assert "hush" not in done.stderr


def _train(folder: Path, env: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return replicate(
        "run", "--study", "study.yaml", "--devices", "cpu:2", *words, cwd=folder, env=env
    )


def _profile(folder: Path, env: dict[str, str]) -> tuple[dict[str, str], list[str]]:
    """The same credentials in files that a profile names, outside of what is scanned."""
    file = folder / "aws-credentials"
    file.write_text(
        "[lab]\n" + "".join(f"{key.lower()} = {value}\n" for key, value in UNIQUE.items())
    )
    without = {**env, **dict.fromkeys(UNIQUE, ""), "AWS_SHARED_CREDENTIALS_FILE": str(file)}
    return {**without, "AWS_PROFILE": "lab"}, ["--aws-profile", "lab"]


def _all_processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _wait(condition: object, process: subprocess.Popen[bytes]) -> None:
    assert callable(condition)
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, "the command ended"
        assert time.monotonic() < deadline
        time.sleep(0.02)
