"""The files that a study's command needs, before it is started anywhere."""

from __future__ import annotations

import pytest

from orchestrator.studies.command_files import missing_command_files


@pytest.mark.parametrize(
    ("command", "missing"),
    [
        (["python", "train.py", "--lr", "{lr}"], ()),
        (["python", "-u", "tain.py"], ("tain.py",)),
        (["bash", "scripts/run.sh"], ("scripts/run.sh",)),
        (["./run", "data.py"], ("./run", "data.py")),
        (["python", "-m", "package.train"], ()),
        (["bash", "-c", "echo hi > x.py"], ("echo hi > x.py",)),
        (["python", "{method}.py"], ()),
        (["torchrun", "--standalone", "train.py"], ()),
        (["my-trainer", "out.txt"], ()),
    ],
)
def test_scripts_and_programs_of_a_folder_must_be_there(tmp_path, command, missing):
    (tmp_path / "train.py").touch()
    assert missing_command_files(command, tmp_path) == missing
