"""The environment of a command is that of its own Python, or not known: never papergrid's."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from orchestrator.machine.launch import Launch
from orchestrator.machine.trainer_python import UNKNOWN, Known, describe_trainer_python

ANSWER = '{"python": "3.99.1", "interpreter": "/else/python", "packages": {"torch": "9.9"}}'
PYTHON = f"""#!/bin/sh
echo asked >> "$ASKED"
echo "a banner of a start-up file"
echo 'papergrid-python {ANSWER}'
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder whose Python is another one."""
    for name, text in {
        "bin/python3": PYTHON,
        "bin/conda": 'shift 3; exec "$@"',
        "train": f"#!{tmp_path}/bin/python3 -u\nprint(1)\n",
        "tool": "#!/usr/bin/env -S python3 -u\n",
        "train.sh": "#!/bin/sh\npython3 x\n",
        "open": "#!/bin/sh 'python3\n",
        "broken/python": "#!/bin/sh\nexit 3\n",
        "silent/python": "#!/bin/sh\necho papergrid-python {\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text if text.startswith("#!") else f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    return tmp_path


def launch(place: Path, *argv: str) -> Launch:
    environment = {"PATH": f"{place}/bin:{os.environ['PATH']}", "ASKED": str(place / "asked")}
    return Launch(argv=argv, environment=environment, cwd=place, has_agent=False)


@pytest.mark.parametrize(
    ("words", "is_known"),
    [
        (("python3", "train.py"), True),
        (("./bin/python3", "-u", "train.py"), True),
        (("env", "A=1", "python3", "train.py"), True),
        (("nice", "-n", "5", "python3", "-m", "pkg.train"), True),
        (("conda", "run", "-n", "torch", "python3", "train.py"), True),
        (("./train", "--lr", "1"), True),
        (("./tool",), True),
        ((sys.executable, "-m", "torch.distributed.run", "--no-python", "python3", "x.py"), True),
        (("bash", "train.sh"), False),
        (("./train.sh",), False),
        (("./open",), False),
        (("srun", "python3", "train.py"), False),
        (("docker", "run", "image", "python3", "train.py"), False),
        (("./broken/python", "train.py"), False),
        (("./silent/python", "train.py"), False),
        (("absent", "train.py"), False),
    ],
)
def test_the_python_of_a_command_is_asked_itself(
    place: Path, words: tuple[str, ...], is_known: bool
) -> None:
    known: Known = {}
    found: Mapping[str, Any] = describe_trainer_python(launch(place, *words), known)
    if is_known:
        assert found == {
            "python": "3.99.1",
            "interpreter": "/else/python",
            "packages": {"torch": "9.9"},
        }
    else:
        assert found == UNKNOWN


def test_a_python_is_asked_once_by_an_executor(place: Path) -> None:
    known: Known = {}
    for number in range(3):
        describe_trainer_python(launch(place, "python3", "train.py", str(number)), known)
    assert (place / "asked").read_text() == "asked\n"


def test_this_python_answers_with_its_packages(tmp_path: Path) -> None:
    found = describe_trainer_python(
        Launch(argv=(sys.executable, "x"), environment=os.environ, cwd=tmp_path, has_agent=False),
        {},
    )
    assert found["interpreter"] == sys.executable
    assert found["packages"]["numpy"]
