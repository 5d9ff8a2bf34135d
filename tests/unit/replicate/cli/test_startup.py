"""What starting `replicate` may import: a person waits for every one of these."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from support.grids import make_grid, write_result, write_sweep

from replicate.cli.main import VERBS, main

HEAVY = {
    *("torch", "torchvision", "timm", "pandas", "numpy", "scipy"),
    *("boto3", "botocore", "submitit", "matplotlib", "PIL", "jinja2"),
}
FOR_FILES = {"pydantic", "yaml", "rich", "filelock"}

_PROBE = """
import json, sys
from replicate.cli.main import main
try:
    code = main(sys.argv[1:])
except SystemExit as stop:
    code = stop.code
print(json.dumps([code, sorted(sys.modules)]))
"""


def modules_after(*words: str, cwd) -> tuple[int, set[str]]:
    """Exit code and loaded modules of `replicate words`."""
    done = subprocess.run(
        [sys.executable, "-c", _PROBE, *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    code, modules = json.loads(done.stdout.splitlines()[-1])
    return code, set(modules)


@pytest.mark.parametrize(
    ("words", "code", "also_forbidden"),
    [
        (("--help",), 0, FOR_FILES),
        (("plan", "--help"), 0, FOR_FILES),
        (("data", "episodes", "--help"), 0, FOR_FILES),
        (("plan", "--flods", "0"), 2, FOR_FILES),
        (("plan", "--datasets", "pascal5i", "--json"), 0, {"rich"}),
        (("status", "out"), 0, {"pydantic", "yaml", "filelock"}),
        (("status", "out", "--json"), 0, {"pydantic", "yaml", "filelock"}),
        (("merge", "out"), 3, {"pydantic", "yaml"}),
        (("compare", "out", "--axis", "nope", "--values", "a,b"), 2, {"pydantic", "yaml", "rich"}),
        (("cancel", "out", "--dry-run"), 0, FOR_FILES),
        (("cancel", "out"), 0, FOR_FILES),
        (("retry", "out"), 0, FOR_FILES),
        (("work", "nowhere"), 2, FOR_FILES),
        (("sync", "push", "out", "nowhere"), 2, FOR_FILES),
        (("report", "nowhere"), 2, FOR_FILES),
    ],
)
def test_a_verb_imports_no_more_than_it_needs(tmp_path, words, code, also_forbidden):
    sweep = make_grid()
    write_sweep(tmp_path / "out", sweep)
    write_result(tmp_path / "out", sweep.runs[0], 0.5)
    got, modules = modules_after(*words, cwd=tmp_path)
    assert got == code
    assert modules & (HEAVY | also_forbidden) == set()


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_every_verb_imports_nothing_heavy(tmp_path, verb):
    code, modules = modules_after(verb, "--help", cwd=tmp_path)
    assert code == 0
    assert modules & (HEAVY | FOR_FILES) == set()


def test_help_is_a_command_too_and_lists_the_version(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["help"])
    assert ended.value.code == 0
    overview = capsys.readouterr().out
    assert "--version" in overview
    with pytest.raises(SystemExit):
        main(["--help"])
    assert capsys.readouterr().out == overview
    with pytest.raises(SystemExit):
        main(["help", "status"])
    assert capsys.readouterr().out.startswith("usage: replicate status")
    assert main(["help", "staus"]) == 2
    assert "did you mean 'status'" in capsys.readouterr().err
    assert main(["help", "run", "plan"]) == 2
