"""Which files are the code of a command: what it starts and what that imports, and nothing else."""

from __future__ import annotations

import errno
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.studies import COMMAND, study_of

from merge.errors import StudyError
from merge.records.sweep import Run
from merge.storage.clock import Clock
from orchestrator.plan.code_version import code_version
from orchestrator.plan.code_watch import CodeWatch
from orchestrator.plan.command_sources import command_sources
from orchestrator.plan.freeze import make_sweep


@pytest.fixture
def project(tmp_path: Path) -> Path:
    files = {
        "train.py": "import json\nfrom nets.heads import build\nimport tools.io as io, torch\n",
        "plot.py": "",
        "nets/__init__.py": "",
        "nets/heads.py": "from .blocks import conv\nfrom ..elsewhere import x\n",
        "nets/blocks.py": "    from deep.core.math import add\n",
        "nets/by_name.py": "",
        "nets/weights.bin": "",
        "src/deep/core/math.py": "",
        "src/deep/other/unused.py": "",
        "tools/io.py": "",
        "scripts/go.sh": "cd ..\npython scripts/late.py\npython -m nets.blocks\n",
        "scripts/late.py": "import helper\n",
        "scripts/helper.py": "",
        "conf.yaml": "",
        "notes.md": "",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


PACKAGE = {"nets/__init__.py", "nets/heads.py", "nets/blocks.py"}
DEEP = {"src/deep/core/math.py"}
BY_NAME = {"nets/by_name.py"}


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (
            ("python", "train.py", "--config=conf.yaml"),
            {"train.py", "plot.py", "conf.yaml", "tools/io.py", *PACKAGE, *BY_NAME, *DEEP},
        ),
        (("python", "-m", "nets.heads"), {*PACKAGE, *BY_NAME, *DEEP}),
        (
            ("bash", "scripts/go.sh"),
            {"scripts/go.sh", "scripts/late.py", "scripts/helper.py", *PACKAGE, *BY_NAME, *DEEP},
        ),
        (
            ("bash", "-c", "exec python scripts/late.py --lr 1"),
            {"scripts/late.py", "scripts/helper.py"},
        ),
        (("python", "scripts/{method}.py"), {"scripts/late.py", "scripts/helper.py"}),
        (("true",), set()),
    ],
)
def test_what_a_command_starts_and_imports_is_its_code(
    project: Path, command: tuple[str, ...], expected: set[str]
) -> None:
    assert set(command_sources(command, project)) == expected


def test_a_study_that_names_its_code_leaves_out_what_only_lies_beside_it(project: Path) -> None:
    command = ("python", "train.py")
    imported = {"train.py", "tools/io.py", *PACKAGE, *DEEP}
    assert set(command_sources(command, project, ())) == imported
    named = command_sources(command, project, ("conf.yaml", "scripts", "src/deep"))
    scripts = {"scripts/go.sh", "scripts/late.py", "scripts/helper.py"}
    assert set(named) == {*imported, "conf.yaml", "src/deep/other/unused.py", *scripts}


def test_modules_of_pythonpath_count(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "lib").mkdir()
    (project / "lib" / "far.py").touch()
    (project / "train.py").write_text("import far")
    assert "lib/far.py" not in command_sources(("python", "train.py"), project)
    monkeypatch.setenv("PYTHONPATH", "lib")
    assert "lib/far.py" in command_sources(("python", "train.py"), project)


@pytest.mark.parametrize(
    ("path", "module"),
    [
        ("'lib'", "lib/far.py"),
        ("os.path.join(os.path.dirname(__file__), 'lib', '..', 'lib')", "lib/far.py"),
        ("str(Path(__file__).parents[1])", "../far.py"),
    ],
)
def test_modules_of_folders_that_a_script_adds_to_its_path_count(
    project: Path, path: str, module: str
) -> None:
    place = project / module
    place.parent.mkdir(exist_ok=True)
    place.touch()
    command = ("python", "train.py")
    (project / "train.py").write_text("import far")
    assert module not in command_sources(command, project)
    (project / "train.py").write_text(f"import os, sys\nsys.path.insert(0, {path})\nimport far")
    assert module in command_sources(command, project)


def test_a_file_with_an_error_or_without_permission_ends_no_plan(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "train.py").write_bytes(b"from (\nimport \xff\nimport nets.heads\n" + b"\0" * 9)
    (project / "plot.py").unlink()
    (project / "tool").touch()
    (project / "go.sh").touch()
    private = ("plot.py", "tool", "go.sh")
    read = Path.open

    # The tests may run as root, who may read everything.
    def opened(path: Path, *words: Any, **more: Any) -> Any:
        if path.name in private:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return read(path, *words, **more)

    monkeypatch.setattr(Path, "open", opened)
    (project / "plot.py").touch(0)
    command = ("python", "train.py", "./tool", "go.sh", "x" * 5000, "a\0b")
    assert set(command_sources(command, project)) > {*PACKAGE, "plot.py", "./tool", "go.sh"}
    run = make_sweep(study_of(project, COMMAND), {}).runs[0]
    assert code_version(replace(run, command=command), cwd=project)["source"]


def git(folder: Path, *words: str) -> None:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    subprocess.run(["git", "-C", str(folder), *identity, *words], check=True, capture_output=True)


def test_uncommitted_changes_of_code_count_wherever_it_lies(project: Path) -> None:
    git(project, "init", "-q")
    git(project, "add", "-A")
    git(project, "commit", "-qm", "first")
    run = Run(
        run_id="r",
        path="r",
        cell="c",
        axes={},
        config={},
        config_hash="",
        command=("python", "train.py"),
    )
    found = [code_version(run, cwd=project)]
    # The study and notes may be edited while a sweep goes on.
    (project / "conf.yaml").write_text("lr: 1")
    found.append(code_version(run, cwd=project))
    assert found[0] == found[1]
    assert found[0]["git_dirty"] is False
    # No search finds it: it is loaded by a path that is put together.
    for text in ("x = 1\n", "x = 2\n"):
        (project / "src" / "deep" / "other" / "unused.py").write_text(text)
        found.append(code_version(run, cwd=project))
    assert [each["git_dirty"] for each in found] == [False, False, True, True]
    assert len({each["git_diff"] for each in found}) == 3
    assert len({each["source"] for each in found}) == 1


STUDY = COMMAND.replace("[bash, train.sh, ", "[python, train.py, ")


def test_named_code_is_found_from_the_study_file_and_kept_in_the_plan(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "studies").mkdir()
    monkeypatch.chdir(project)
    study = study_of(project / "studies", STUDY + "code: [../conf.yaml, ../nets]\n")
    assert study.code_files == ("conf.yaml", "nets")
    sweep = make_sweep(study, code_version(study))
    again = code_version(sweep.runs[0], named=sweep.code_files)
    assert again == sweep.code
    (project / "conf.yaml").write_text("lr: 2")
    assert code_version(study)["source"] != again["source"]


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("[gone.py]", "code[0]: there is no file or folder"),
        ("[big.bin]", "code[0]: big.bin is larger than 1 MiB: name code here, not data"),
        ('[train.py, ""]', "code[1]: is empty"),
        ("{a: 1}", "code: "),
    ],
)
def test_code_that_cannot_be_read_is_refused_by_its_place(
    project: Path, code: str, problem: str
) -> None:
    (project / "big.bin").write_bytes(b"\0" * (2**20 + 1))
    with pytest.raises(StudyError) as refused:
        study_of(project, f"{STUDY}code: {code}\n")
    assert problem in str(refused.value)


class HandClock(Clock):
    """A clock that is set by hand."""

    time = 0.0

    def monotonic(self) -> float:
        return self.time


def test_an_edit_while_runs_go_on_is_seen_by_the_next_run(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    study = study_of(project, STUDY)
    clock = HandClock()
    watch = CodeWatch(make_sweep(study, code_version(study)), project, clock)
    first = watch()
    assert watch() is first
    heads = project / "nets" / "heads.py"
    heads.write_text(heads.read_text() + "# other\n")
    second = watch()
    assert second["source"] != first["source"]
    (project / "nets" / "added.py").touch()
    third = watch()
    assert third["source"] != second["source"]
    # Nothing that is known has changed: a commit is seen after a while.
    git(project, "init", "-q")
    git(project, "add", "-A")
    git(project, "commit", "-qm", "first")
    os.utime(project, ns=(1, 1))
    watch()
    clock.time += 61
    assert watch()["git_commit"] is not None
