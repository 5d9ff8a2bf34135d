"""`python -m experiments.runtime.write_options`: a mistake is named, with what to mend."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.runtime.write_options import main

ROOT = Path(__file__).resolve().parents[4]
EXAMPLE = ROOT / "examples" / "blobs"
WRITTEN = [
    path.parent for top in ("examples", "tests") for path in (ROOT / top).rglob("options.yaml")
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The example under a name that no other test imports, with Python's state put back after."""
    folder = tmp_path / f"blobs_{tmp_path.name}"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    # Other tests of this process have imported torch.
    for name in [name for name in sys.modules if name.split(".")[0] == "torch"]:
        monkeypatch.delitem(sys.modules, name)
    yield folder
    for name in [name for name in sys.modules if name.split(".")[0] == folder.name]:
        del sys.modules[name]


def edit(folder: Path, old: str, new: str) -> None:
    path = folder / "options.py"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))


def test_the_files_of_examples_and_tests_have_all_options_of_the_runtime():
    """`make options` writes those of papergrid's experiments alone."""
    program = (
        "import sys; from pathlib import Path; from experiments.runtime.experiment import *; "
        "from experiments.runtime.write_options import options_yaml\n"
        "for word in sys.argv[1:]:\n"
        "    found = find_experiment(word, Path.cwd())\n"
        "    written = (found.folder / 'options.yaml').read_text()\n"
        "    assert written == options_yaml(found.options_type), f'write_options {word}/'"
    )
    assert len(WRITTEN) >= 2
    words = [sys.executable, "-c", program, *map(str, WRITTEN)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_file_is_written_also_before_there_is_a_task(folder):
    written = (folder / "options.yaml").read_text()
    for name in ("options.yaml", "task.py", "manifest.yaml"):
        (folder / name).unlink()
    assert main([f"./{folder.name}"]) == 0
    assert (folder / "options.yaml").read_text() == written


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("class Options", "class Optionz", "has no class `Options`"),
        ("from typing", "1 / 0\nfrom typing", "line 4: ZeroDivisionError: division by zero"),
        ("class Options:", "class Options(:", "SyntaxError"),
        (
            "from typing",
            "import sys; sys.modules['torch'] = sys\nfrom typing",
            "imports torch: options are read where torch is not installed; import it in model.py",
        ),
        ("@dataclass(frozen=True, slots=True, kw_only=True)", "", "put @dataclass above it"),
        ("Range(1)] = 32", "Range(1)]", "'width': every option needs a default"),
        ("Range(1)] = 32", "Range(1)] = 0", "width: its default must be at least 1, not 0"),
        ('    """Hidden units of the model."""\n', "", "width: write a docstring under the field"),
        ("    width:", "    lr:", "two options have the name 'lr' (lr and optimiser.lr)"),
        ("    width: Annotated[int, Range(1)]", "    width: dict[str, int]", "option 'width' is"),
        (
            "    runtime: RuntimeOptions = RuntimeOptions(epochs=4, global_batch=16)\n",
            "",
            "no group 'runtime': add `runtime: RuntimeOptions = RuntimeOptions()`",
        ),
    ],
)
def test_wrong_options_are_refused_and_the_file_stays_as_it_is(folder, capsys, old, new, message):
    written = (folder / "options.yaml").read_text()
    edit(folder, old, new)
    assert main([f"./{folder.name}"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert (folder / "options.yaml").read_text() == written


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["./nowhere"], "nowhere is no experiment: it has no options.py"),
        (["nowhere"], "such as ./myfolder); known: "),
        (["runtime"], "there is no experiment 'runtime'"),
    ],
)
def test_what_is_no_experiment_is_named(folder, capsys, words, message):
    assert main(words) == 2
    assert message in capsys.readouterr().err
