"""The code's version changes with what computes numbers, and with nothing else."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from support.studies import COMMAND, TOY, study_of, write_experiment

from merge.records.sweep import Run
from orchestrator.plan.code_version import CodeVersion, code_differs, code_version


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    return subprocess.run(
        ["git", "-C", str(folder), *identity, *words], capture_output=True, text=True, check=True
    ).stdout.strip()


MANIFEST = """
metrics: {miou: {unit: percent, goal: max}}
code: [images]
result_code: [merge/means.py]
"""


@pytest.fixture
def trainers(tmp_path: Path) -> Path:
    """A folder of trainers, in no checkout."""
    folder = tmp_path / "code" / "experiments"
    (folder / "toy" / "models").mkdir(parents=True)
    write_experiment(folder / "toy", options="{}", manifest=MANIFEST)
    (folder / "toy" / "models" / "head.py").write_text("x = 1\n")
    shared = ("runtime/loop.py", "images/read.py", "sounds/read.py")
    for file in (*shared, "../merge/means.py", "../merge/results/statistics.py"):
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x = 1\n")
    return folder


def version_of(tmp_path: Path, trainers: Path) -> CodeVersion:
    return code_version(study_of(tmp_path, TOY), trainers)


@pytest.mark.parametrize(
    ("file", "text", "changes"),
    [
        ("toy/models/head.py", "x = 2\n", True),
        ("toy/options.yaml", "{a: 1}", True),
        ("toy/new.py", "", True),
        ("toy/notes.md", "text", False),
        ("toy/models/head.py", "x = 1\n", False),
        ("toy/manifest.yaml", MANIFEST + "title: A toy\n", False),
        ("runtime/loop.py", "x = 2\n", True),
        ("images/read.py", "x = 2\n", True),
        ("sounds/read.py", "x = 2\n", False),
        ("../merge/means.py", "x = 2\n", True),
        ("../merge/results/statistics.py", "x = 2\n", True),
        ("toy/.venv/lib/x.py", "x = 2\n", False),
        ("../merge/other.py", "x = 2\n", False),
    ],
)
def test_the_source_digest_follows_the_trainers_sources(
    tmp_path: Path, trainers: Path, file: str, text: str, changes: bool
) -> None:
    before = version_of(tmp_path, trainers)
    (trainers / file).parent.mkdir(parents=True, exist_ok=True)
    (trainers / file).write_text(text)
    after = version_of(tmp_path, trainers)
    assert len(after["source"]) == 16
    assert bool(code_differs(before, after)) is changes


@pytest.mark.parametrize("marker", ["sweep.json", "pyvenv.cfg"])
def test_an_output_folder_or_environment_inside_an_experiment_is_not_its_code(
    tmp_path: Path, trainers: Path, marker: str
) -> None:
    inner = trainers / "toy" / "inner"
    inner.mkdir()
    before = version_of(tmp_path, trainers)
    (inner / marker).write_text("{}")
    (inner / "copy.py").write_text("x = 1\n")
    assert version_of(tmp_path, trainers) == before


def test_a_new_experiment_is_no_other_code_of_those_that_are_there(
    tmp_path: Path, trainers: Path
) -> None:
    before = version_of(tmp_path, trainers)
    (trainers / "other").mkdir()
    assert version_of(tmp_path, trainers)["source"] == before["source"]
    write_experiment(trainers / "other", options="{}", manifest=MANIFEST)
    (trainers / "other" / "task.py").write_text("x = 1\n")
    assert version_of(tmp_path, trainers)["source"] == before["source"]


def test_a_changed_file_of_another_experiment_does_not_make_the_code_dirty(
    tmp_path: Path, trainers: Path
) -> None:
    root = trainers.parent
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message", "first")
    (trainers / "sounds" / "read.py").write_text("x = 2\n")
    assert version_of(tmp_path, trainers)["git_dirty"] is False
    found = set()
    for file in ("toy/models/head.py", "runtime/loop.py", "images/read.py", "../merge/means.py"):
        (trainers / file).write_text("x = 2\n")
        version = version_of(tmp_path, trainers)
        assert version["git_dirty"] is True
        found.add(version["git_diff"])
        git(root, "checkout", "--quiet", "--", str((trainers / file).resolve()))
    assert len(found) == 4


def test_the_code_of_a_folder_elsewhere_is_its_own_and_the_runtime(
    tmp_path: Path, trainers: Path
) -> None:
    blobs = write_experiment(tmp_path / "here" / "blobs", options="{}", manifest=MANIFEST)
    (blobs / "task.py").write_text("x = 1\n")
    git(tmp_path / "here", "init", "--quiet")
    git(tmp_path / "here", "add", ".")
    git(tmp_path / "here", "commit", "--quiet", "--message", "first")
    run = Run(
        run_id="r", path="r", cell="c", axes={}, config={}, config_hash="", experiment="./blobs"
    )

    def version() -> CodeVersion:
        return code_version(run, trainers, tmp_path / "here")

    first = version()
    assert first["git_commit"] == git(tmp_path / "here", "rev-parse", "HEAD")
    assert first["git_dirty"] is False
    (trainers / "toy" / "models" / "head.py").write_text("x = 3\n")
    assert version()["source"] == first["source"]
    (trainers / "runtime" / "loop.py").write_text("x = 3\n")
    second = version()
    assert second["source"] != first["source"]
    (blobs / "task.py").write_text("x = 2\n")
    assert version()["source"] not in (first["source"], second["source"])
    assert version()["git_dirty"] is True


def test_a_moved_file_is_other_code(tmp_path: Path, trainers: Path) -> None:
    before = version_of(tmp_path, trainers)
    (trainers / "toy" / "models" / "head.py").rename(trainers / "toy" / "head.py")
    assert code_differs(before, version_of(tmp_path, trainers))


def test_the_digest_of_a_command_follows_the_files_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    study = study_of(tmp_path, COMMAND)
    digests = [code_version(study)["source"]]
    (tmp_path / "other.sh").write_text("echo")
    digests.append(code_version(study)["source"])
    (tmp_path / "train.sh").write_text("echo 1")
    digests.append(code_version(study)["source"])
    (tmp_path / "train.sh").write_text("echo 2")
    digests.append(code_version(study)["source"])
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_a_commit_is_told_and_whether_the_code_differs_from_it(
    tmp_path: Path, trainers: Path
) -> None:
    assert version_of(tmp_path, trainers)["git_commit"] is None
    root = trainers.parent
    git(root, "init", "--quiet")
    git(root, "add", ".")
    uncommitted = version_of(tmp_path, trainers)
    assert (uncommitted["git_commit"], uncommitted["git_dirty"]) == (None, None)
    git(root, "commit", "--quiet", "--message", "first")
    (root / "outside.txt").write_text("no trainer")
    clean = version_of(tmp_path, trainers)
    assert (clean["git_commit"], clean["git_dirty"]) == (git(root, "rev-parse", "HEAD"), False)
    (trainers / "toy" / "new.py").write_text("")
    assert version_of(tmp_path, trainers)["git_dirty"] is True


def test_code_that_git_ignores_has_no_commit(tmp_path: Path, trainers: Path) -> None:
    root = trainers.parent
    (root / ".gitignore").write_text("experiments/\n")
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message", "first")
    assert version_of(tmp_path, trainers)["git_commit"] is None


def test_without_git_the_rest_is_still_known(
    tmp_path: Path, trainers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    version = version_of(tmp_path, trainers)
    assert (version["git_commit"], version["git_dirty"]) == (None, None)
    assert len(version["source"]) == 16


def test_another_commit_of_the_same_sources_is_no_difference() -> None:
    old = {"version": "0.1.0", "source": "a", "git_commit": "1", "git_dirty": False}
    assert code_differs(old, {**old, "git_commit": "2", "git_dirty": True}) == ()
    assert code_differs(old, {**old, "source": "b"}) == ("source: a -> b",)


def test_what_changed_need_not_be_text(tmp_path: Path, trainers: Path) -> None:
    notes = trainers / "toy" / "notes.txt"
    notes.write_bytes(b"caf\xe9\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "first")
    found = set()
    for content in (b"caf\xe8\n", b"caf\xea\n"):
        notes.write_bytes(content)
        found.add(version_of(tmp_path, trainers)["git_diff"])
    assert len(found) == 2
    assert None not in found
