"""A skipped suite is one line of the summary, and `.ci/run` refuses a log that has one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.skips import skip_lines

ROOT = Path(__file__).parents[3]

_SUITE = """\
import pytest

@pytest.mark.skipif({skipped}, reason="SLURM: sbatch not installed")
@pytest.mark.parametrize("number", range(3))
def test_array(number):
    pass

def test_bucket():
    if {skipped}:
        pytest.skip("S3: no server\\nof two lines")
"""


def run_suite(folder: Path, *, skipped: bool) -> Path:
    """The log of a real run of a suite that needs services, on colours and on xdist."""
    (folder / "test_suite.py").write_text(_SUITE.format(skipped=skipped), encoding="utf-8")
    environ = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "tests"),
        "FORCE_COLOR": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # half of the time is imports of other plugins
    }
    plugins = ["-p", "xdist", "-n", "1", "-p", "support.skips"]
    words = ["-m", "pytest", *plugins, "-c", "/dev/null", "test_suite.py"]
    log = folder / "log"
    with log.open("wb") as file:
        subprocess.run([sys.executable, *words], cwd=folder, env=environ, stdout=file, check=True)
    return log


def refuse(log: Path) -> subprocess.CompletedProcess[str]:
    words = [str(ROOT / ".ci" / "refuse-skips"), str(log)]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def test_ci_refuses_a_run_with_skipped_suites_and_names_each_once(tmp_path):
    done = refuse(run_suite(tmp_path, skipped=True))
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "SKIPPED [1 tests] S3: no server of two lines",
        "SKIPPED [3 tests] SLURM: sbatch not installed",
    ]


def test_ci_accepts_a_run_without_a_skip(tmp_path):
    done = refuse(run_suite(tmp_path, skipped=False))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("content", [None, ""])
def test_ci_refuses_a_log_that_is_not_there(tmp_path, content):
    log = tmp_path / "log"
    if content is not None:
        log.write_text(content)
    assert refuse(log).returncode == 1


def test_a_suite_with_two_reasons_is_one_line_with_both():
    reasons = ["S3: no rclone", "S3: no ministack", "S3: no rclone", "no command unshare"]
    assert skip_lines(reasons) == [
        "SKIPPED [3 tests] S3: no rclone; no ministack",
        "SKIPPED [1 tests] no command unshare",
    ]
