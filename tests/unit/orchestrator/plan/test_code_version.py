"""The code's version changes with what computes numbers, and with nothing else."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from support.studies import COMMAND, TOY, study_of

from orchestrator.plan.code_version import CodeVersion, code_differs, code_version


def git(folder: Path, *words: str) -> str:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    return subprocess.run(
        ["git", "-C", str(folder), *identity, *words], capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.fixture
def trainers(tmp_path: Path) -> Path:
    """A folder of trainers, in no checkout."""
    folder = tmp_path / "code" / "experiments"
    (folder / "toy" / "models").mkdir(parents=True)
    (folder / "toy" / "options.yaml").write_text("{}")
    (folder / "toy" / "models" / "head.py").write_text("x = 1\n")
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
    ],
)
def test_the_source_digest_follows_the_trainers_sources(
    tmp_path: Path, trainers: Path, file: str, text: str, changes: bool
) -> None:
    before = version_of(tmp_path, trainers)
    (trainers / file).write_text(text)
    after = version_of(tmp_path, trainers)
    assert len(after["source"]) == 16
    assert bool(code_differs(before, after)) is changes


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
