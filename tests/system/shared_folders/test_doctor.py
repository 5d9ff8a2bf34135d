"""`replicate doctor`: two real processes on a real folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.commands import replicate

pytestmark = pytest.mark.system

NO_SLURM = {"PATH": "/nowhere"}
"""A SLURM without its controller takes its time to say so."""


def test_a_local_folder_is_proved_and_left_as_it_was(tmp_path):
    done = replicate("doctor", tmp_path / "out", "--json", cwd=tmp_path, env=NO_SLURM)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    names = {check["name"] for check in document["checks"]}
    assert not document["refused"]
    assert names >= {"link excludes", "rename is atomic", "clocks agree", "torch", "disk space"}
    assert list((tmp_path / "out").iterdir()) == []


def test_folders_that_are_named_as_ours_are_not_taken_for_ours(tmp_path):
    for name in ("orchestrator", "torch"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('not ours')\n")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "replicate.cli.main", "doctor", "out", "--patience", "20"],
        cwd=tmp_path,
        env={**os.environ, **NO_SLURM},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "not ours" not in done.stdout + done.stderr


def test_two_that_wait_for_a_peer_meet_and_say_the_same(tmp_path):
    words = ("doctor", tmp_path / "out", "--only", "folder", "--wait-for-peer", "--json")
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: replicate(*words, cwd=tmp_path), range(2)))
    assert [done.returncode for done in both] == [0, 0], [done.stderr for done in both]
    first, second = (json.loads(done.stdout)["checks"] for done in both)
    assert [check["name"] for check in first] == [check["name"] for check in second]
    assert list((tmp_path / "out").iterdir()) == []


def test_a_peer_that_never_comes_is_refused(tmp_path):
    words = ("doctor", tmp_path, "--only", "folder", "--wait-for-peer", "--patience", "0.2")
    done = replicate(*words, cwd=tmp_path)
    assert done.returncode == 1
    assert "no second process came" in done.stdout
    assert "refused: two processes meet" in done.stdout


def test_a_missing_data_root_is_refused_with_the_fix(tmp_path):
    words = ("doctor", tmp_path, "--only", "machine", "--data-root", "/no")
    done = replicate(*words, cwd=tmp_path, env=NO_SLURM)
    assert done.returncode == 1
    assert "/no cannot be read" in done.stdout
    assert "correct --data-root" in done.stdout


def test_a_bucket_that_cannot_be_reached_is_refused(tmp_path):
    words = ("doctor", tmp_path, "--only", "folder", "--bucket", "s3://papergrid-test/sweep")
    nowhere = ("--endpoint-url", "http://127.0.0.1:1", "--region", "us-east-1")
    secret = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "very-secret"}
    done = replicate(*words, *nowhere, cwd=tmp_path, env={**NO_SLURM, **secret})
    assert done.returncode == 1, done.stderr
    assert "refused: bucket: " in done.stdout
    assert "very-secret" not in done.stdout + done.stderr


def test_a_folder_that_cannot_be_written_is_an_error_that_names_it(tmp_path):
    (tmp_path / "file").touch()
    done = replicate("doctor", tmp_path / "file" / "out", "--only", "folder", cwd=tmp_path)
    assert done.returncode == 75
    assert str(tmp_path / "file" / "out") in done.stderr


def test_doctor_itself_imports_nothing_heavy(tmp_path):
    code = (
        "import sys; from replicate.cli.main import main; "
        "main(['doctor', 'out', '--only', 'folder', '--json']); "
        "sys.exit(bool({'torch', 'pandas', 'boto3', 'submitit', 'pydantic'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
